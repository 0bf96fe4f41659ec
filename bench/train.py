"""Training: compiled chunks of steps, the same loop, data and optimiser for every model, and no way back to Python within a chunk."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, cast, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from bench.data import FRESH, TRAJECTORIES, DataSet, Split
from bench.presets import Preset
from bench.soap import scale_by_soap
from models import Batch, Model, Scales, Signal
from systems._system import Chart, Spec, System

# Of all that makes data and trains and is no row: systems/_*.py, models/_*.py, bench/data.py, bench/soap.py, bench/stacks.py, this file. It is part
# of the name of every run and data set: raise it if data or trained parameters come out otherwise than by rounding (tests/test_golden.py says so).
TRAINING = 1
ONCE = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}  # for what runs for less time than it takes to compile
VALIDATION_STATES = 4096  # enough for a validation loss good to a few per cent
CONSTANT = 1e-9  # of the largest spread, below which a number counts as one that never varies
WATCHED_STATES = 128  # at which the smallest eigenvalue of a learnt mass matrix is watched while it trains
DECAY = 0.35  # of a training, the last part, in which a trapezoidal learning rate falls to 0
NEWTON_SCHULZ = ((3.4445, -4.775, 2.0315),) * 5  # optax' own coefficients of muon, one row an iteration: a loop compiles sooner than five written out


@dataclass(frozen=True)
class Trained:
    """A trained model, and what was seen on the way, at the end of each chunk."""

    model: Model
    history: dict[str, np.ndarray]  # step, train_loss (mean over the chunk), smallest_mass_eigenvalue
    validation_loss: float
    diverged_at: int | None = None  # step whose loss was not finite
    cpu_seconds: float | None = None  # of all steps, from those after the first chunk, which may have been compiled; None if there was one chunk

    def metrics(self) -> dict[str, float]:
        """Losses, and the number of trained parameters."""
        loss = float(self.history["train_loss"][-1])
        return {"train_loss": loss, "validation_loss": self.validation_loss, "parameters": parameters(self.model)}


@dataclass(frozen=True)
class Snapshot:
    """All that the training of one seed goes on from, between two chunks."""

    step: int  # steps done
    model: Model
    state: Any  # of the optimiser
    key: jax.Array  # of the batches
    history: dict[str, np.ndarray]  # as in `Trained`
    diverged_at: int | None = None


@runtime_checkable
class Keeper(Protocol):
    """Keeps trainings that may be interrupted; bits don't depend on whether there is one."""

    def resume(self, starts: list[Snapshot]) -> list[Snapshot]:
        """Where to go on: what was kept, or the starts."""
        ...

    def after_chunk(self, snapshots: Callable[[], list[Snapshot]]) -> None:
        """Is called between chunks, and may keep the snapshots."""
        ...


def scales(split: Split, system: System, model: type[Model], normalise: bool = True) -> Scales:
    """Training statistics in the model's chart; on a lattice one number for all sites. Without `normalise` all are 1, as published."""
    frame = system.recording.frame
    if not normalise:
        ones = (1.0,) * system.spec.dof
        return Scales(q=ones, v=ones, rate=ones, c=(1.0,) * system.spec.context, frame=frame)
    x, rate = _in_chart(split, system, model)
    axes = (0, 1, 3) if system.spec.lattice else (0, 1)

    def spread(values) -> tuple[float, ...]:
        # what never varies (a context that is always the same, the rate of a conserved momentum) is left in its own unit, its rounding too
        values = np.atleast_1d(values)
        return tuple(float(s) if s > CONSTANT * values.max(initial=0.0) else 1.0 for s in values)

    x_spread, rate_spread = x.std(axis=axes), rate.std(axis=axes)
    return Scales(q=spread(rate_spread[0]), v=spread(x_spread[1]), rate=spread(rate_spread[1]), c=spread(split.c.std(axis=0)), frame=frame)


def _in_chart(split: Split, system: System, model: type[Model]):
    if model.chart == "qv":
        return split.x, split.rate

    def convert(x, rate, c):
        return system.to_chart(x, c, model.chart), system.rate_to_chart(rate, x, c, model.chart)

    x, rate = jax.jit(jax.vmap(jax.vmap(convert, (0, 0, None))), compiler_options=ONCE)(split.x, split.rate, split.c)
    return np.asarray(x), np.asarray(rate)


def cut(split: Split, system: System, model: type[Model], segment: int, signal: Signal = "own") -> Batch:
    """A split as one large batch of segments, as long as the loss of a signal needs. Here double precision ends and single begins."""
    span = model.span(segment, signal)
    x, rate = _in_chart(split, system, model)
    pieces = x.shape[1] // span
    x, rate = (a[:, : pieces * span].reshape(-1, span, *a.shape[2:]) for a in (x, rate))
    return Batch(*(np.asarray(a, np.float32) for a in (x, rate, np.repeat(split.c, pieces, axis=0))))


def segments_per_step(batch: Batch, preset: Preset, lattice: bool) -> int:
    """How many segments hold `preset.batch` states; at least one."""
    _, span, _, dof = batch.x.shape
    return max(1, preset.batch // (span * (dof if lattice else 1)))


def schedule(preset: Preset) -> optax.Schedule:
    """Share of the learning rate by step: linear warm-up, then a cosine to 0, or (trapezoidal) constant and linear to 0 over the last 35 %."""
    warmup = min(preset.warmup, preset.steps - 1)
    if preset.schedule == "cosine":
        return optax.warmup_cosine_decay_schedule(0.0 if warmup else 1.0, 1.0, warmup, preset.steps)
    falling = max(1, min(round(DECAY * preset.steps), preset.steps - warmup))
    rising = optax.linear_schedule(0.0, 1.0, warmup) if warmup else optax.constant_schedule(1.0)
    return optax.join_schedules([rising, optax.constant_schedule(1.0), optax.linear_schedule(1.0, 0.0, falling)], [warmup, preset.steps - falling])


def optimizer(preset: Preset, learning_rate: float) -> optax.GradientTransformationExtraArgs:
    """The preset's optimiser; its `update` is told the `step` of the loop. The rate is a part of its state, so that all rates run one program."""

    def times_rate(updates, state, params=None):
        return jax.tree.map(lambda update: state * update, updates), state

    with np.errstate(over="ignore"):  # beyond single precision it is infinite, and the training diverges
        single = np.float32(learning_rate)
    rate = optax.GradientTransformation(lambda params: jnp.asarray(single), times_rate)
    shape = schedule(preset)
    if preset.optimizer == "soap":
        return optax.chain(scale_by_soap(), optax.scale_by_learning_rate(shape), rate)
    others = {"muon": partial(optax.contrib.muon, ns_coeffs=NEWTON_SCHULZ), "adam": optax.adam}
    return optax.with_extra_args_support(optax.chain(others[preset.optimizer](shape), rate))


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _initial(model: type[Model], spec: Spec, values, scales: Scales, seed) -> Model:
    return model(spec, scales, values, rngs=nnx.Rngs(params=jax.random.fold_in(jax.random.key(seed), 0)))


def initial(model: type[Model], spec: Spec, values, scales: Scales, seed: int) -> Model:
    """The untrained model of a seed."""
    return _initial(model, spec, values, scales, np.uint32(seed))


@partial(jax.jit, static_argnums=0, compiler_options=ONCE)
def _first_state(start, model, seed):
    """(optimiser state, key of the batches) of a seed before its first step."""
    return start(model), jax.random.fold_in(jax.random.key(seed), 1)


def chosen(key, data: Batch, count: int) -> Batch:
    """`count` segments of the training data."""
    at = jax.random.randint(key, (count,), 0, len(data.x))
    return jax.tree.map(lambda a: a[at], data)


def fresh(system: System, chart: Chart, key, count: int) -> Batch:
    """`count` independent states of the system's law, drawn now, as published; they are true in double precision before they become single."""

    def one(key):
        x, c = system.sample_state(key)
        rate = jnp.stack([x[1], system.acceleration(x, c)])
        return system.to_chart(x, c, chart)[None], system.rate_to_chart(rate, x, c, chart)[None], c

    return Batch(*(a.astype(jnp.float32) for a in jax.vmap(one)(jax.random.split(key, count))))


def chunk_function(optimizer: optax.GradientTransformationExtraArgs, preset: Preset, draw: Callable) -> Callable:
    """(model, optimiser state, key, step, data, length) -> (model, optimiser state, losses [chunk]) for one seed: a chunk of the training.

    `draw(key, data)` gives the batch of a step. The length is an argument, so that the last chunk and the clock, which take fewer steps, run the
    same program.
    """

    def chunk(model, state, key, first, data: Batch, length):
        def one(i, carry):
            model, state, losses = carry
            step = first + i
            batch = draw(jax.random.fold_in(key, step), data)
            progress = step.astype(jnp.float32) / preset.steps
            loss, gradient = jax.value_and_grad(lambda model: model.loss_from(preset.signal, batch, progress))(model)
            update, state = optimizer.update(gradient, state, cast(Any, model), step=step)  # pyright: ignore[reportArgumentType]  (any pytree will do)
            return optax.apply_updates(model, update), state, losses.at[i].set(loss)

        return jax.lax.fori_loop(0, length, one, (model, state, jnp.zeros(preset.chunk, jnp.float32)))

    return chunk


class Trainer:
    """Trains one model on one system with one compilation: a seed at a time, or several seeds in one program."""

    def __init__(self, model: type[Model], system: System, data: DataSet, preset: Preset):
        self.model, self.system, self.preset = model, system, preset
        self.values = preset.settings(model)
        self.learning_rate = preset.learning_rate or self.values.rate_of(preset.optimizer)
        alone = preset.sampling != TRAJECTORIES and model.span(preset.segment, preset.signal) == 1  # it learns from independent states
        training, validation = (split.starts() if alone else split for split in (data.training, data.validation))
        self.draws_anew = alone and preset.sampling == FRESH
        self.scales = scales(training, system, model, normalise=self.values.normalise)
        self.training = jax.device_put(cut(training, system, model, preset.segment, preset.signal))
        lattice = system.spec.lattice
        self.count = segments_per_step(self.training, preset, lattice)
        self.optimizer = optimizer(preset, self.learning_rate)
        chunk = chunk_function(self.optimizer, preset, self.batch)

        def together(models, states, keys, step, data, length):
            return jax.vmap(lambda model, state, key: chunk(model, state, key, step, data, length))(models, states, keys)

        # memory of the model and of the optimiser's state is given away, and used again
        self.chunk, self.chunk_together = (jax.jit(f, donate_argnums=(0, 1)) for f in (chunk, together))
        self.validation: Batch = _first_states(cut(validation, system, model, preset.segment, preset.signal), VALIDATION_STATES, lattice)
        self.validation_loss = jax.jit(lambda model, batch: model.loss_from(preset.signal, batch, jnp.ones(())), compiler_options=ONCE)
        self.watched = _first_states(self.validation, WATCHED_STATES, lattice)

    def start(self, seed: int):
        """(model, optimiser state, key of the batches) of a seed before its first step."""
        model = initial(self.model, self.system.spec, self.values, self.scales, seed)
        return model, *_first_state(self.optimizer.init, model, np.uint32(seed))

    def batch(self, key, data: Batch) -> Batch:
        """The batch of a step."""
        if self.draws_anew:
            return fresh(self.system, self.model.chart, key, self.count)
        return chosen(key, data, self.count)

    def chunks(self, seeds: Sequence[int], snapshots: Sequence[Snapshot] = ()) -> Iterator[tuple[int, Any, Any, np.ndarray]]:
        """(steps done, models, optimiser states, losses [seed, step of the chunk]) after each chunk of a training of these seeds, from their starts
        or from snapshots on; several seeds in one program.

        Models and states that are not the last ones are gone with the next chunk, which uses their memory.
        """
        first = snapshots[0].step if snapshots else 0
        starts = [(s.model, s.state, s.key) for s in snapshots] or [self.start(seed) for seed in seeds]
        if len(seeds) == 1:
            chunk, (models, states, keys) = self.chunk, starts[0]
        else:
            chunk, (models, states, keys) = self.chunk_together, jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts)
        for step in range(first, self.preset.steps, self.preset.chunk):
            length = min(self.preset.chunk, self.preset.steps - step)
            models, states, losses = chunk(models, states, keys, np.int32(step), self.training, np.int32(length))
            yield step + length, models, states, np.asarray(losses).reshape(len(seeds), -1)[:, :length]

    def __call__(
        self, seeds: Sequence[int], report: Callable[[int, int, float], None] = lambda seed, step, loss: None, keeper: Keeper | None = None
    ) -> list[Trained]:
        """Trains the models of these seeds, several of them in one program.

        `report(seed, step, loss)` is called after each chunk. A seed whose loss is not finite has diverged, and one whose weights are not finite
        in the end; when all have, training ends. With a `keeper` the training goes on from what was kept.
        """
        snapshots = [Snapshot(0, *self.start(seed), history={}) for seed in seeds]
        if keeper is not None:
            snapshots = keeper.resume(snapshots)
        keys = [snapshot.key for snapshot in snapshots]
        rows: list[list[dict]] = [_rows(snapshot.history) for snapshot in snapshots]
        diverged: list[int | None] = [snapshot.diverged_at for snapshot in snapshots]
        trained: list[Model] = [snapshot.model for snapshot in snapshots]
        clock = _ChunkClock()
        for done, models, states, losses in self.chunks(seeds, snapshots):
            clock.tick(losses.shape[1])
            trained = separate(models, len(seeds))
            for i, (seed, model) in enumerate(zip(seeds, trained, strict=True)):
                if diverged[i] is not None:
                    continue
                finite = np.isfinite(losses[i])
                if not finite.all():
                    diverged[i] = done - len(finite) + int(np.argmin(finite))
                elif done == self.preset.steps and not is_finite(model):
                    diverged[i] = done
                row = {"step": done, "train_loss": losses[i].mean()}
                if hasattr(model, "mass_matrix"):
                    row["smallest_mass_eigenvalue"] = smallest_mass_eigenvalue(model, self.watched.x[:, 0], self.watched.c)
                rows[i].append(row)
                report(seed, done, float(losses[i][-1]))
            if None not in diverged:
                break
            if keeper is not None and done < self.preset.steps:

                def now(done=done, trained=trained, states=states) -> list[Snapshot]:
                    parts = zip(trained, separate(states, len(seeds)), keys, map(_history, rows), diverged, strict=True)
                    return [Snapshot(done, *of_seed) for of_seed in parts]

                keeper.after_chunk(now)
        validation = [float(self.validation_loss(model, self.validation)) for model in trained]
        seconds = clock.seconds(self.preset.steps, len(seeds))
        return [Trained(*of_seed, seconds) for of_seed in zip(trained, map(_history, rows), validation, diverged, strict=True)]


class _ChunkClock:
    """Processor time of the chunks of a training."""

    def __init__(self):
        self.marks = [(time.process_time(), 0)]

    def tick(self, steps: int) -> None:
        self.marks.append((time.process_time(), steps))

    def seconds(self, steps: int, seeds: int) -> float | None:
        """Of all steps of one of several seeds."""
        timed = sum(n for _, n in self.marks[2:])
        return (self.marks[-1][0] - self.marks[1][0]) * steps / timed / seeds if timed else None


def _history(rows: list[dict]) -> dict[str, np.ndarray]:
    """Columns of a history, from its rows."""
    return {name: column(name, [row[name] for row in rows]) for name in rows[0]}


def column(name: str, values: list) -> np.ndarray:
    """A column of a history: steps are counted, all else is single precision."""
    return np.array(values, np.int64 if name == "step" else np.float32)


def _rows(history: dict[str, np.ndarray]) -> list[dict]:
    return [dict(zip(history, values, strict=True)) for values in zip(*history.values(), strict=True)]


def parameters(model: Model) -> int:
    """Number of trained parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(model))


def is_finite(model: Model) -> bool:
    """Whether all weights are."""
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(model))


def separate(stacked: Any, count: int) -> list[Any]:
    """The single models, or optimiser states, of `count` stacked ones; of one, itself."""
    return [stacked] if count == 1 else [jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in range(count)]


def _first_states(batch: Batch, states: int, lattice: bool) -> Batch:
    _, span, _, dof = batch.x.shape
    return jax.tree.map(lambda a: a[: max(1, states // (span * (dof if lattice else 1)))], batch)


@partial(jax.jit, compiler_options=ONCE)
def _smallest_mass_eigenvalue(model, x, c):
    return jnp.linalg.eigvalsh(jax.vmap(model.mass_matrix)(x, c)).min()


def smallest_mass_eigenvalue(model, x, c) -> float:
    """Least eigenvalue of the learnt mass matrix over states x [n, 2, dof], in units in which velocities have unit spread.

    In pieces of equal size, which share a program with all that watch the training of this model; what is left over is not looked at.
    """
    count = min(WATCHED_STATES, len(x))
    pieces = range(0, len(x) - count + 1, count)
    return min(float(_smallest_mass_eigenvalue(model, np.float32(x[i : i + count]), np.float32(c[i : i + count]))) for i in pieces)
