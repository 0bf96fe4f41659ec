"""Evaluation: a trained model, or a floor, against the true system, on held-out states and in long rollouts."""

from functools import cached_property, partial
from math import gcd

import jax
import jax.numpy as jnp
import numpy as np

from bench import metrics
from bench.data import DataSet, Split
from bench.evidence import Evidence, called, in_double, in_single
from bench.train import ONCE, smallest_mass_eigenvalue
from systems._integrators import rollout
from systems._system import System

# Of all that measures a trained model or a floor: this file, bench/evidence.py, bench/metrics.py, bench/floors.py. Stored metrics carry it: raise it
# when one of them comes out otherwise (tests/test_golden.py says so), and all runs are evaluated anew. A new metric is a part (bench/parts.py).
EVALUATION = 1
TEST_STATES = 8192  # independent enough for field errors good to a per cent
MASSES = 512  # of them, at which the smallest eigenvalue of a learnt mass matrix is looked for
PIECE = 10  # frames of a rollout in one compiled program
FILM = 10_000  # numbers at most of the motion from the first start that is stored to be looked at
CURVE_POINTS = 100  # in time, of a stored curve: what a figure can show, in a repository that holds hundreds of them


class Evaluator:
    """Evaluates the models of one cell, one after the other, with one compilation."""

    def __init__(self, system: System, data: DataSet):
        self.system, self.data = system, data
        x, rate, c = data.test.states()
        chosen = np.linspace(0, len(x) - 1, min(TEST_STATES, len(x))).astype(int)
        self.test = x[chosen], rate[chosen], c[chosen]
        self.limit = self._limit()
        self._predict = jax.jit(self._predicted_rates)
        self.begin = jax.jit(self._begin, static_argnames="stride")
        self.piece = jax.jit(self._piece, static_argnames=("frames", "stride"))
        self._true_energy = jax.jit(jax.vmap(jax.vmap(system.energy, (0, None))), compiler_options=ONCE)
        self._admissible = jax.jit(jax.vmap(jax.vmap(system.admissible)), compiler_options=ONCE)
        self._force = jax.jit(jax.vmap(lambda x, c, a: system.expansion(x, c).A @ a), compiler_options=ONCE)
        self._from_chart = jax.jit(self._states, static_argnames="chart", compiler_options=ONCE)
        self._first_energy = jax.jit(lambda x, c: (jax.vmap(system.energy)(x, c), system.energy_scale(x, c)), compiler_options=ONCE)

    @cached_property
    def evidence(self) -> Evidence:
        """What Table 1 is decided from."""
        return Evidence(self.system, self.data)

    def _limit(self) -> np.ndarray:
        """Ten times the range of the training data; angles have none."""
        spec = self.system.spec
        if spec.lattice:
            return metrics.RANGE * np.abs(self.data.training.x).max(axis=(0, 1, 3), keepdims=True)[0, 0]
        limit = metrics.RANGE * np.abs(self.data.training.x).max(axis=(0, 1))
        limit[0, np.array(spec.is_angle())] = np.inf
        return limit

    def __call__(self, model) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """Metrics by name (PROTOCOL: errors are fractions), and curves over time. What a model doesn't have is absent."""
        results, rates = {}, None
        if hasattr(model, "derivative"):
            of_test, rates = self.rates(model)
            results |= self._field_metrics(of_test)
        if hasattr(model, "mass_matrix"):
            x, _, c = self.test
            results["smallest_mass_eigenvalue"] = smallest_mass_eigenvalue(model, x[:MASSES], c[:MASSES])
        rollout_metrics, curves = self.rollout_metrics(model)
        if getattr(model, "coarsened", False):
            curves |= self.with_longer_steps(model)
        return results | rollout_metrics, curves | {name: values.astype(np.float32) for name, values in self.evidence(model, rates).items()}

    def _states(self, x, c, chart):
        """Motions [start, time, 2, dof] of a chart in (q, v)."""
        return jax.vmap(jax.vmap(lambda x, c: self.system.from_chart(x, c, chart), (0, None)))(x, c)

    def _predicted_rates(self, model, x, c):
        """ẋ̂ in the (q, v) chart at states x = (q, v)."""
        system = self.system

        def one(x, c):
            predicted = in_single(model, "derivative", system.to_chart(x, c, model.chart), c, system.spec)
            return system.rate_from_chart(predicted, x, c, model.chart)

        return jax.vmap(one)(x, c)

    def rates(self, model) -> tuple[np.ndarray, np.ndarray]:
        """ẋ̂ in the (q, v) chart at the held-out states and at those of the evidence, by one program."""
        parts = (self.test[0], self.test[2]), self.evidence.states()
        x, c = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        of_test, of_evidence = np.split(np.asarray(self._predict(model, x, c)), [len(self.test[0])])
        return of_test, of_evidence

    def field_metrics(self, model) -> dict[str, float]:
        """field_error, acceleration_error, force_error and acceleration_l1 on held-out states of the training law."""
        return self._field_metrics(self.rates(model)[0])

    def _field_metrics(self, predicted) -> dict[str, float]:
        x, true, c = self.test
        forces = [np.asarray(self._force(x, c, rate[:, 1])) for rate in (predicted, true)]
        return {
            "field_error": metrics.field_error(predicted, true, self.system.spec.lattice),
            "acceleration_error": metrics.acceleration_error(predicted[:, 1], true[:, 1], self.system.spec.lattice),
            "force_error": metrics.force_error(*forces),
            "acceleration_l1": metrics.acceleration_l1(predicted[:, 1], true[:, 1]),
        }

    def one_frame_error(self, model, split: Split) -> float:
        """Mean |x̂ − x| one frame ahead, in the model's chart, in units of the spread of the change that a frame brings: what `tune` makes small.

        The one error that every model has, a step map and a field alike.
        """
        before, after = (split.x[:, a:b].reshape(-1, *split.x.shape[2:]) for a, b in ((None, -1), (1, None)))
        chosen = np.linspace(0, len(before) - 1, min(TEST_STATES, len(before))).astype(int)
        c = np.repeat(split.c, split.x.shape[1] - 1, axis=0)[chosen]
        convert = jax.vmap(lambda x, c: self.system.to_chart(x, c, model.chart))
        change = np.asarray(convert(after[chosen], c) - convert(before[chosen], c))
        predicted = np.asarray(self.rollout(model, before[chosen], c, frames=1, stride=1)[:, 0] - convert(before[chosen], c))
        error = np.abs(predicted - change) / change.std(axis=0)
        return float(np.where(np.isfinite(error), error, np.inf).mean())

    def rollout(self, model, x, c, frames: int, stride: int, substeps=None):
        """Predictions 1 ... `frames`, `stride` training frames apart, from starts x = (q, v), in the model's own chart: [start, time, 2, dof].

        In pieces of a few frames: the same program then serves a long rollout and the clock. `substeps` in a frame: the system's own, unless given.
        """
        at, pieces, length = self.begin(model, x, c, stride=stride, substeps=substeps), [], gcd(frames, PIECE)
        for _ in range(frames // length):
            at, states = self.piece(model, at, c, frames=length, stride=stride, substeps=substeps)
            pieces.append(np.asarray(states))
        return np.concatenate(pieces, axis=1)

    def _begin(self, model, x, c, stride: int, substeps=None):
        """What a rollout from starts x = (q, v) goes on from: the state in the model's own chart, for a field with slopes of the motion before."""
        recording = self.system.recording

        def one(x, c):
            x = self.system.to_chart(x, c, model.chart)
            if hasattr(model, "change"):
                return x
            field = partial(in_single, model, "derivative", c=c, spec=self.system.spec)
            return recording.integrator.start(field, x, stride * recording.frame / (recording.substeps if substeps is None else substeps))

        return jax.vmap(one)(x, c)

    def _piece(self, model, at, c, frames: int, stride: int, substeps=None):
        """Where a rollout is some frames later, and the states on the way."""
        spec, recording = self.system.spec, self.system.recording

        def one(at, c):
            if hasattr(model, "change"):
                states = rollout(lambda x: jax.lax.fori_loop(0, stride, lambda _, x: x + in_single(model, "change", x, c, spec), x), at, frames)
                return states[-1], states
            field = partial(in_single, model, "derivative", c=c, spec=spec)
            steps = recording.substeps if substeps is None else substeps
            return recording.integrator.rollout(field, at, stride * recording.frame, steps, frames)

        return jax.vmap(one)(at, c)

    def substeps(self) -> list[int]:
        """Steps in an evaluation frame: the system's own number, halved again and again."""
        steps = [self.system.recording.substeps]
        while steps[-1] > 1:
            steps.append(steps[-1] // 2)
        return steps

    def with_longer_steps(self, model) -> dict[str, np.ndarray]:
        """coarse_substeps [k], coarse_rollout_error [k] over the window and coarse_energy_error [k], median at the last frame."""
        system, recording, evaluation = self.system, self.system.recording, self.data.evaluation
        start, c, true = evaluation.x[:, 0], evaluation.c, evaluation.x[:, 1:]
        energy, scale = self._reference_energy(start, true, c)
        found = []
        for substeps in self.substeps():
            predicted = np.asarray(self.rollout(model, start, c, true.shape[1], recording.stride, jnp.array(substeps)))
            diverged = metrics.divergence(predicted, self.limit, np.asarray(self._admissible(predicted)))
            drift = metrics.energy_error(np.asarray(self._true_energy(predicted, c)), energy, scale, diverged)
            error = metrics.rollout_error(predicted, true, system.spec, diverged)[:, : self._window()]
            found.append((substeps, metrics.geometric_mean(error), np.median(drift[:, -1])))
        names = "coarse_substeps", "coarse_rollout_error", "coarse_energy_error"
        return dict(zip(names, np.array(found, np.float32).T, strict=True))

    def _reference_energy(self, start, true, c):
        """H that predictions should have [start, time], and its unit [start]: H of the start, [start, 1]; under a force that of the truth at the same
        time."""
        first, scale = map(np.asarray, self._first_energy(start, c))
        return (np.asarray(self._true_energy(true, c)) if self.system.forced else first[:, None]), scale

    def _window(self) -> int:
        """Frames over which rollout errors are averaged."""
        recording = self.system.recording
        return max(1, min(self.data.evaluation.x.shape[1] - 1, round(recording.window / recording.evaluation_frame)))

    def rollout_metrics(self, model) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """What long rollouts from the evaluation's starts show."""
        system, spec, recording = self.system, self.system.spec, self.system.recording
        start, true, c = self.data.evaluation.x[:, 0], self.data.evaluation.x[:, 1:], self.data.evaluation.c
        frames = true.shape[1]
        given = model.start(start) if hasattr(model, "start") else start
        own = self.rollout(model, given, c, frames, recording.stride)
        predicted = own if model.chart == "qv" else np.asarray(self._from_chart(own, c, model.chart))
        diverged = metrics.divergence(predicted, self.limit, np.asarray(self._admissible(predicted)))
        reference, scale = self._reference_energy(start, true, c)
        energy = metrics.energy_error(np.asarray(self._true_energy(predicted, c)), reference, scale, diverged)
        state = metrics.rollout_error(predicted, true, spec, diverged)
        distance = metrics.distance(predicted, true, spec)
        results = {
            "rollout_error": metrics.geometric_mean(state[:, : self._window()]),
            "valid_time": float(np.median(metrics.valid_time(distance, diverged, recording.evaluation_frame, self.data.evaluation.reliable))),
            "energy_error_last_mean": float(energy[:, -1].mean()),
            "energy_error_last_median": float(np.median(energy[:, -1])),
            "energy_error_mean": float(energy.mean()),
            "energy_error_max": float(energy.max()),
            "diverged_rollouts": int((diverged < frames).sum()),
        }
        every = max(1, frames // CURVE_POINTS)
        shown = slice((frames - 1) % every, None, every)  # the last frame among them
        if spec.lattice:
            results["momentum_error"] = float(metrics.momentum_error(predicted, true, diverged).mean())
            results["field_error_last"] = float(metrics.final_field_error(predicted, true, diverged).mean())
        if hasattr(model, "energy") and not system.forced:
            results["own_energy_drift"] = self._own_energy_drift(model, given, own[:, -1], c, diverged < frames)
        time = recording.evaluation_frame * (1 + np.arange(frames)[shown])
        curves = {"time": time, "energy_error": energy[:, shown], "rollout_error": state[:, shown]}
        curves["rollout_error_of_start"] = np.exp(np.log(state[:, : self._window()]).mean(axis=1))
        film = predicted[0, :, :1] if spec.lattice else predicted[0]
        every = -(-film.size // FILM)
        curves |= {"prediction_time": recording.evaluation_frame * (1 + np.arange(frames)[::every]), "prediction": film[::every]}
        return results, {name: values.astype(np.float32) for name, values in curves.items()}

    def _own_energy_drift(self, model, start, end, c, diverged) -> float:
        """|E(ẑ_T) − E(z_0)| of the learnt energy over its spread between starts, mean over starts; in double precision, as differences are small.

        The spread is taken at one context and averaged over contexts: an energy is known only up to a function of c.
        """
        drift, spread = self._drift(in_double(model), start, end, c)
        drift = np.asarray(drift / spread)
        return float(np.where(diverged | ~np.isfinite(drift), np.inf, drift).mean())

    @cached_property
    def _drift(self):
        """(|E(end) − E(start)| [start], the spread) of a learnt energy from (model, start, end, c): starts (q, v), ends in the model's chart."""
        evidence = self.evidence  # compiles something itself, and so is made before, not within, what is compiled here

        def drift_and_spread(model, start, end, c):
            drift = jax.vmap(lambda start, end, c: jnp.abs(called(model, "energy", end, c) - evidence.initial_energy(model, start, c)))(start, end, c)
            return drift, evidence.spread(model, start, c)

        return jax.jit(drift_and_spread, compiler_options=ONCE)
