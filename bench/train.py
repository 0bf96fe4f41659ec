"""Training: chunks of `lax.scan`, the same loop, data and optimiser for every model, and no way back to Python within a chunk."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from bench.data import DataSet, Split
from bench.presets import Preset
from models import Batch, Model, Scales
from systems._system import Spec, System

ONCE = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}  # for what runs for less time than it takes to compile
VALIDATION_STATES = 4096  # enough for a validation loss good to a few per cent
WATCHED_STATES = 128  # at which the smallest eigenvalue of a learnt mass matrix is watched while it trains


@dataclass(frozen=True)
class Trained:
    """A trained model, and what was seen on the way, at the end of each chunk."""

    model: Model
    history: dict[str, np.ndarray]  # step, train_loss (mean over the chunk), smallest_mass_eigenvalue
    validation_loss: float
    diverged_at: int | None = None  # step whose loss was not finite

    def metrics(self) -> dict[str, float]:
        """Losses, and the number of trained parameters."""
        sizes = [leaf.size for leaf in jax.tree.leaves(self.model)]
        return {"train_loss": float(self.history["train_loss"][-1]), "validation_loss": self.validation_loss, "parameters": sum(sizes)}


def scales(split: Split, system: System, model: type[Model], normalise: bool = True) -> Scales:
    """Training statistics in the model's chart; on a lattice one number for all sites. Without `normalise` all are 1, as published."""
    frame = system.recording.frame
    if not normalise:
        ones = (1.0,) * system.spec.dof
        return Scales(q=ones, v=ones, rate=ones, c=(1.0,) * system.spec.context, frame=frame)
    x, rate = _in_chart(split, system, model)
    axes = (0, 1, 3) if system.spec.lattice else (0, 1)

    def spread(values) -> tuple[float, ...]:
        # what never varies (a context that is always the same) is left in its own unit
        return tuple(float(s) if s > 0 else 1.0 for s in np.atleast_1d(values))

    x_spread, rate_spread = x.std(axis=axes), rate.std(axis=axes)
    return Scales(q=spread(rate_spread[0]), v=spread(x_spread[1]), rate=spread(rate_spread[1]), c=spread(split.c.std(axis=0)), frame=frame)


def _in_chart(split: Split, system: System, model: type[Model]):
    if model.chart == "qv":
        return split.x, split.rate

    def convert(x, rate, c):
        return system.to_chart(x, c, model.chart), system.rate_to_chart(rate, x, c, model.chart)

    x, rate = jax.jit(jax.vmap(jax.vmap(convert, (0, 0, None))))(split.x, split.rate, split.c)
    return np.asarray(x), np.asarray(rate)


def cut(split: Split, system: System, model: type[Model], segment: int) -> Batch:
    """A split as one large batch of segments, as long as the model's loss needs. Here double precision ends and single begins."""
    span = model.span(segment)
    x, rate = _in_chart(split, system, model)
    pieces = x.shape[1] // span
    x, rate = (a[:, : pieces * span].reshape(-1, span, *a.shape[2:]) for a in (x, rate))
    return Batch(*(jnp.asarray(a, jnp.float32) for a in (x, rate, np.repeat(split.c, pieces, axis=0))))


def segments_per_step(batch: Batch, preset: Preset, lattice: bool) -> int:
    """How many segments hold `preset.batch` states; at least one."""
    _, span, _, dof = batch.x.shape
    return max(1, preset.batch // (span * (dof if lattice else 1)))


def optimizer(preset: Preset, learning_rate: float) -> optax.GradientTransformation:
    """The preset's optimiser with linear warm-up and a cosine to zero."""
    warmup = min(preset.warmup, preset.steps - 1)
    schedule = optax.warmup_cosine_decay_schedule(0.0 if warmup else learning_rate, learning_rate, warmup, preset.steps)
    return {"muon": optax.contrib.muon, "adam": optax.adam}[preset.optimizer](schedule)


def initial(model: type[Model], spec: Spec, values, scales: Scales, seed: int) -> Model:
    """The untrained model of a seed."""
    return model(spec, scales, values, rngs=nnx.Rngs(params=jax.random.fold_in(jax.random.key(seed), 0)))


def chunk_function(optimizer: optax.GradientTransformation, preset: Preset, lattice: bool) -> Callable:
    """(model, optimiser state, key, step, data, length) -> (model, optimiser state, losses [length]) for one seed: a chunk of the training."""

    def chunk(model, state, key, step, data: Batch, length: int):
        count = segments_per_step(data, preset, lattice)

        def one(carry, step):
            model, state = carry
            chosen = jax.random.randint(jax.random.fold_in(key, step), (count,), 0, len(data.x))
            batch = jax.tree.map(lambda a: a[chosen], data)
            progress = step.astype(jnp.float32) / preset.steps
            loss, gradient = jax.value_and_grad(lambda model: model.loss(batch, progress))(model)
            update, state = optimizer.update(gradient, state, cast(Any, model))  # pyright: ignore[reportArgumentType]  (any pytree will do)
            return (optax.apply_updates(model, update), state), loss

        (model, state), losses = jax.lax.scan(one, (model, state), step + jnp.arange(length))
        return model, state, losses

    return chunk


class Trainer:
    """Trains one model on one system with one compilation: a seed at a time, or several seeds in one program."""

    def __init__(self, model: type[Model], system: System, data: DataSet, preset: Preset):
        self.model, self.system, self.preset = model, system, preset
        self.values = preset.settings(model)
        self.learning_rate = preset.learning_rate or self.values.learning_rate
        self.scales = scales(data.training, system, model, normalise=preset.hyperparameters == "default")
        self.training = cut(data.training, system, model, preset.segment)
        lattice = system.spec.lattice
        self.optimizer = optimizer(preset, self.learning_rate)
        chunk = chunk_function(self.optimizer, preset, lattice)

        def together(models, states, keys, step, data, length: int):
            return jax.vmap(lambda model, state, key: chunk(model, state, key, step, data, length))(models, states, keys)

        # memory of the model and of the optimiser's state is given away, and used again
        self.chunk, self.chunk_together = (jax.jit(f, static_argnames="length", donate_argnums=(0, 1)) for f in (chunk, together))
        self.validation = _first_states(cut(data.validation, system, model, preset.segment), VALIDATION_STATES, lattice)
        self.validation_loss = jax.jit(lambda model, batch: model.loss(batch, jnp.ones(())), compiler_options=ONCE)
        self.watch = jax.jit(smallest_mass_eigenvalue, compiler_options=ONCE)
        self.watched = _first_states(self.validation, WATCHED_STATES, lattice)

    def start(self, seed: int):
        """(model, optimiser state, key of the batches) of a seed before its first step."""
        model = initial(self.model, self.system.spec, self.values, self.scales, seed)
        return model, self.optimizer.init(cast(Any, model)), jax.random.fold_in(jax.random.key(seed), 1)

    def chunks(self, seeds: Sequence[int]) -> Iterator[tuple[int, Any, np.ndarray]]:
        """(steps done, models, losses [seed, step of the chunk]) after each chunk of a training of these seeds, several of them in one program.

        Models that are not the last ones are gone with the next chunk, which uses their memory.
        """
        starts = [self.start(seed) for seed in seeds]
        if len(seeds) == 1:
            chunk, (models, states, keys) = self.chunk, starts[0]
        else:
            chunk, (models, states, keys) = self.chunk_together, jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts)
        for step in range(0, self.preset.steps, self.preset.chunk):
            length = min(self.preset.chunk, self.preset.steps - step)
            models, states, losses = chunk(models, states, keys, jnp.array(step), self.training, length=length)
            yield step + length, models, np.asarray(losses).reshape(len(seeds), length)

    def __call__(self, seeds: Sequence[int], report: Callable[[int, int, float], None] = lambda seed, step, loss: None) -> list[Trained]:
        """Trains the models of these seeds, several of them in one program.

        `report(seed, step, loss)` is called after each chunk. A seed whose loss is not finite has diverged; when all have, training ends.
        """
        rows: list[list[dict]] = [[] for _ in seeds]
        diverged: list[int | None] = [None for _ in seeds]
        trained: list[Model] = []
        for done, models, losses in self.chunks(seeds):
            trained = separate(models, len(seeds))
            for i, (seed, model) in enumerate(zip(seeds, trained, strict=True)):
                if diverged[i] is not None:
                    continue
                finite = np.isfinite(losses[i])
                if not finite.all():
                    diverged[i] = done - len(finite) + int(np.argmin(finite))
                row = {"step": done, "train_loss": losses[i].mean()}
                if hasattr(model, "mass_matrix"):
                    row["smallest_mass_eigenvalue"] = float(self.watch(model, self.watched.x[:, 0], self.watched.c))
                rows[i].append(row)
                report(seed, done, float(losses[i][-1]))
            if None not in diverged:
                break
        histories = [{name: np.array([row[name] for row in history]) for name in history[0]} for history in rows]
        validation = [float(self.validation_loss(model, self.validation)) for model in trained]
        return [Trained(*of_seed) for of_seed in zip(trained, histories, validation, diverged, strict=True)]


def separate(models: Model, count: int) -> list[Model]:
    """The single models of `count` stacked ones; of one, itself."""
    return [models] if count == 1 else [jax.tree.map(lambda leaf, i=i: leaf[i], models) for i in range(count)]


def _first_states(batch: Batch, states: int, lattice: bool) -> Batch:
    _, span, _, dof = batch.x.shape
    return jax.tree.map(lambda a: a[: max(1, states // (span * (dof if lattice else 1)))], batch)


def smallest_mass_eigenvalue(model, x, c):
    """Least eigenvalue of the learnt mass matrix over the states x [n, 2, dof], in units in which velocities have unit spread."""
    return jnp.linalg.eigvalsh(jax.vmap(model.mass_matrix)(x, c)).min()
