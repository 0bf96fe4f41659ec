"""What Table 1 is decided from: measured on every run, trajectory by trajectory, and stored with its curves.

A unit is one held-out trajectory (of the test split, or of the evaluation's starts), so that intervals can be drawn from many of them. Errors are
taken in the coordinates that all charts of one system share (`System.common`).
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from bench.data import DataSet
from bench.train import ONCE
from systems import _mechanics as mechanics
from systems._integrators import advance_compactly, rollout
from systems._system import Spec, System

UNITS = 64  # test trajectories
EACH = 8  # states of each of them from which something is predicted
INTERVALS = (0.25, 0.5, 1.0, 2.0)  # of the training frame
FINE = 4  # steps in a frame of the method of order 5: converged to 1e-4 of the change, for truth and model alike
COARSE = (2, 1)  # times the step of a rollout, for the order at which a learnt energy drifts
DOUBLED = 8  # steps in a frame of a rollout, from which on they can be twice as long and stay stable
SHARE = 0.1  # of the horizon, for the same


@partial(jax.jit, static_argnames="method")
def called(model, method: str, x, c):
    """`derivative`, `change` or `energy` of a model or a floor; within other programs too, which so trace it once for each precision."""
    return getattr(model, method)(x, c)


def in_double(model):
    """A model with weights in double precision, for differences that are small."""
    return jax.tree.map(np.float64, model)


def in_single(model, method: str, x, c, spec: Spec):
    """Calls a model's method as it was trained, in float32, and gives the result back in x's own precision.

    States are kept in float64 between the steps of a rollout and angles are brought to [−π, π] before the cast: rounding 10⁴ states, and
    angles of many turns, would cost more energy than the integrator.
    """
    turns = jnp.round(x[0] / (2 * jnp.pi)) * jnp.array(spec.is_angle()) if not spec.lattice else 0.0
    wrapped = x.at[0].add(-2 * jnp.pi * turns)
    return called(model, method, wrapped.astype(jnp.float32), c.astype(jnp.float32)).astype(x.dtype)


class Evidence:
    """Measures the models of one cell, one after the other, with one compilation."""

    def __init__(self, system: System, data: DataSet):
        self.system, self.recording = system, system.recording
        test = data.test
        units = np.linspace(0, len(test.x) - 1, min(UNITS, len(test.x))).astype(int)
        frames = test.x.shape[1]
        self.c = test.c[units]
        self.start = test.x[units][:, np.linspace(0, frames - 1, min(EACH, frames)).astype(int)]
        self.evaluation = data.evaluation.x[:, 0], data.evaluation.c
        self._predict = jax.jit(self._predicted, compiler_options=ONCE)
        self._step = jax.jit(self._one_frame, compiler_options=ONCE)
        self._judge = jax.jit(self._consequences, compiler_options=ONCE)
        self.before, self.true, self.accelerations = map(np.asarray, jax.jit(self._truth, compiler_options=ONCE)())
        self._charge = jax.jit(self._charges, compiler_options=ONCE)
        self._drift = jax.jit(self._drift_at)  # runs for longer than it takes to compile

    def _truth(self):
        """Where the true motion is, where it is later, and its accelerations, in the common chart: one program."""
        before = jax.vmap(jax.vmap(self.system.common))(jnp.asarray(self.start))
        rates = jax.vmap(jax.vmap(self.system.field, (0, None)))(jnp.asarray(self.start), jnp.asarray(self.c))
        return before, self._predicted(None), self._consequences(rates)[0]

    def states(self) -> tuple[np.ndarray, np.ndarray]:
        """(x, c) of all states of all units, one after the other: where `__call__` wants a field's rates."""
        return self.start.reshape(-1, *self.start.shape[2:]), np.repeat(self.c, self.start.shape[1], axis=0)

    def __call__(self, model, rates: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Arrays by name, for `curves.npz`, of a model with its rates ẋ̂ in the (q, v) chart at `states`, if it is a field.

        interval_error, interval_change [interval, unit]: ‖x̂ − x‖ of a prediction over 1/4, 1/2, 1 and 2 frames, and ‖x − x₀‖, what persistence
        gets: means over the states of a trajectory, components in units of the spread of the change. With a field also acceleration_error and
        acceleration_size [unit]: the same of v̇; and kept_NAME_change, kept_NAME_exchange [unit]: of the true energy and charges, their rate along
        the model's own motion, and all that flows through them (`_rates_of`). With a learnt energy also charge_NAME_change, charge_NAME_exchange
        [motion, unit]: the same of the learnt energy and charges, along the model's own motion and the true one; and own_energy_coarse
        [step, start], how far it drifts in a tenth of the horizon with steps twice as long as a rollout's and with these, over its spread between
        starts; not under a force, which no energy outlives.
        """
        predicted = np.array(self._predict(model))
        if hasattr(model, "change"):
            predicted[INTERVALS.index(1.0)] = self._step(model)
        compared = [self._compare(later - self.before, true - self.before) for later, true in zip(predicted, self.true, strict=True)]
        errors, changes = zip(*compared, strict=True)
        evidence = {"interval_error": np.array(errors), "interval_change": np.array(changes)}
        if rates is not None:
            accelerations, kept = self._judge(rates.reshape(self.start.shape))
            names = "acceleration_error", "acceleration_size"
            evidence |= dict(zip(names, self._compare(np.asarray(accelerations), self.accelerations), strict=True))
            for name, (change, exchange) in kept.items():
                evidence |= {f"kept_{name}_change": self._finite(change), f"kept_{name}_exchange": np.asarray(exchange)}
        if hasattr(model, "energy"):
            double = in_double(model)
            for name, (change, exchange) in self._charge(double).items():
                evidence |= {f"charge_{name}_change": self._finite(change), f"charge_{name}_exchange": np.asarray(exchange)}
            if self.recording.substeps >= DOUBLED and not self.system.forced:
                steps = [self.recording.substeps // factor for factor in COARSE]
                evidence["own_energy_coarse"] = np.array([self._finite(self._drift(double, substeps)) for substeps in steps])
        return evidence

    @staticmethod
    def _finite(values) -> np.ndarray:
        return np.where(np.isfinite(values), np.asarray(values), np.inf)

    # predictions over intervals ---------------------------------------------------------------------------------

    def _predicted(self, model):
        """States one interval after the other later, in the common chart: [interval, unit, state, 2, dof]; None: the true ones.

        All of one motion in equal steps. A map over a frame is taken as a field.
        """
        system, spec, frame = self.system, self.system.spec, self.recording.frame
        steps = [round(interval * FINE) for interval in INTERVALS]

        def motion(field, x):
            return rollout(lambda x: advance_compactly(field, x, frame / FINE, 1), x, steps[-1])[np.array(steps) - 1]

        def one(x, c):
            if model is None:
                return jax.vmap(system.common)(motion(partial(system.field, c=c), x))
            if hasattr(model, "change"):

                def field(x):
                    return in_single(model, "change", x, c, spec) / frame

            else:
                field = partial(in_single, model, "derivative", c=c, spec=spec)
            states = motion(field, system.to_chart(x, c, model.chart))
            return jax.vmap(lambda x: system.common(system.from_chart(x, c, model.chart)))(states)

        return jax.vmap(jax.vmap(one, (0, None), 1), out_axes=1)(jnp.asarray(self.start), jnp.asarray(self.c))

    def _one_frame(self, model):
        """The same one frame later, for a map over a frame."""

        def one(x, c):
            x = self.system.to_chart(x, c, model.chart)
            x = x + in_single(model, "change", x, c, self.system.spec)
            return self.system.common(self.system.from_chart(x, c, model.chart))

        return jax.vmap(jax.vmap(one, (0, None)))(jnp.asarray(self.start), jnp.asarray(self.c))

    def _compare(self, predicted, true) -> tuple[np.ndarray, np.ndarray]:
        """mean ‖predicted − true‖ and mean ‖true‖ over the states of each unit, components in units of their spread: [unit, state, ..., dof]."""
        lattice = self.system.spec.lattice
        spread = true.std(axis=(0, 1, true.ndim - 1) if lattice else (0, 1), keepdims=True)
        spread = np.where(spread > 0, spread, 1.0)
        flat = (*true.shape[:2], -1)
        with np.errstate(invalid="ignore", over="ignore"):
            error, size = (np.linalg.norm((a / spread).reshape(flat), axis=2).mean(axis=1) for a in (predicted - true, true))
        return self._finite(error), size

    # energies and charges ---------------------------------------------------------------------------------------

    @staticmethod
    def _rates_of(charge: Callable, x, c, rate):
        """(|dC/dt|, Σ_i |∂C/∂x_i ẋ_i|) of a charge C(x, c) along ẋ: how fast it changes, and all that flows through it."""
        exchanged = jax.grad(charge)(x, c) * rate
        return jnp.abs(exchanged.sum()), jnp.abs(exchanged).sum()

    def _consequences(self, rates):
        """What follows from rates [unit, state, 2, dof]: v̇ in the common chart, and rate and flow [unit] of the true energy and charges, by name."""
        system = self.system
        directions = system.symmetries() | system.false_symmetries()
        charges = {"energy": system.energy} | {
            name: lambda x, c, ξ=ξ: mechanics.momentum(system.lagrangian, x[0], x[1], c, system.spec.lattice) @ ξ(x[0])
            for name, ξ in directions.items()
        }

        def one(x, c, rate):
            return jax.jvp(system.common, (x,), (rate,))[1][1], {name: self._rates_of(C, x, c, rate) for name, C in charges.items()}

        accelerations, kept = jax.vmap(jax.vmap(one, (0, None, 0)))(jnp.asarray(self.start), jnp.asarray(self.c), jnp.asarray(rates))
        return accelerations, jax.tree.map(lambda a: a.mean(axis=1), kept)

    def initial_energy(self, model, x, c):
        """The learnt energy of a motion that starts at x = (q, v)."""
        return called(model, "energy", self.system.to_chart(x, c, model.chart), c)

    def spread(self, model, x, c):
        """Of a learnt energy between motions that start at x [n, 2, dof], at one context, averaged over contexts: an energy is known only up to a
        function of c."""
        return jax.vmap(jax.vmap(partial(self.initial_energy, model), (0, None)), (None, 0))(x, c).std(axis=1).mean()

    def _charges(self, model):
        """(rate, flow) [motion, unit] of the learnt energy and charges, by name: along the model's own motion and the true one.

        A charge is the learnt energy, or the learnt ∂L/∂v (of a Hamiltonian model the second half of its state) times a direction.
        """
        system = self.system

        def momentum(x, c):
            return mechanics.momentum(model.lagrangian, x[0], x[1], c, system.spec.lattice) if hasattr(model, "lagrangian") else x[1]

        directions = system.symmetries() | system.false_symmetries()
        charges = {"energy": partial(called, model, "energy")} | {name: lambda x, c, ξ=ξ: momentum(x, c) @ ξ(x[0]) for name, ξ in directions.items()}

        def one(x, c):
            state = system.to_chart(x, c, model.chart)
            rates = jnp.stack([called(model, "derivative", state, c), system.rate_to_chart(system.field(x, c), x, c, model.chart)])
            return {name: jax.vmap(partial(self._rates_of, charge, state, c))(rates) for name, charge in charges.items()}

        return jax.tree.map(lambda a: a.mean(axis=1).T, jax.vmap(jax.vmap(one, (0, None)))(jnp.asarray(self.start), jnp.asarray(self.c)))

    def _drift_at(self, model, substeps):
        x, c = self.evaluation
        recording = self.recording
        frames = max(1, round(SHARE * recording.horizon / recording.evaluation_frame))

        def one(x, c):
            x = self.system.to_chart(x, c, model.chart)

            def field(x):
                return called(model, "derivative", x, c)

            at = recording.integrator.start(field, x, recording.evaluation_frame / substeps)
            end, _ = recording.integrator.rollout(field, at, recording.evaluation_frame, substeps, frames)
            return jnp.abs(called(model, "energy", end.x, c) - called(model, "energy", x, c))

        return jax.vmap(one)(x, c) / self.spread(model, x, c)
