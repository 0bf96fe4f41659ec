"""Training: chunks of `lax.scan`, the same loop, data and optimiser for every model."""

from collections.abc import Callable
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
    """(model, optimiser state, key, step, data, length) -> (model, optimiser state, losses [length]), compiled once for all seeds."""

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

    return jax.jit(chunk, static_argnames="length", donate_argnums=(0, 1))


class Trainer:
    """Trains one model on one system, seed after seed, with one compilation."""

    def __init__(self, model: type[Model], system: System, data: DataSet, preset: Preset):
        self.model, self.system, self.preset = model, system, preset
        published = preset.hyperparameters == "paper"
        self.values = model.paper if published else model.settings
        self.learning_rate = preset.learning_rate or self.values.learning_rate
        self.scales = scales(data.training, system, model, normalise=not published)
        self.training = cut(data.training, system, model, preset.segment)
        lattice = system.spec.lattice
        self.optimizer = optimizer(preset, self.learning_rate)
        self.chunk = chunk_function(self.optimizer, preset, lattice)
        self.validation = _first_states(cut(data.validation, system, model, preset.segment), VALIDATION_STATES, lattice)
        self.validation_loss = jax.jit(lambda model, batch: model.loss(batch, jnp.ones(())))
        self.watch = jax.jit(smallest_mass_eigenvalue)
        self.watched = _first_states(self.validation, WATCHED_STATES, lattice)

    def start(self, seed: int):
        """(model, optimiser state, key of the batches) of a seed before its first step."""
        model = initial(self.model, self.system.spec, self.values, self.scales, seed)
        return model, self.optimizer.init(cast(Any, model)), jax.random.fold_in(jax.random.key(seed), 1)

    def __call__(self, seed: int, report: Callable[[int, float], None] = lambda step, loss: None) -> Trained:
        """Trains the model of a seed. `report(step, loss)` is called after each chunk; a loss that is not finite ends the training."""
        preset, step, rows, diverged_at = self.preset, 0, [], None
        model, state, key = self.start(seed)
        while step < preset.steps and diverged_at is None:
            length = min(preset.chunk, preset.steps - step)
            model, state, losses = self.chunk(model, state, key, jnp.array(step), self.training, length=length)
            losses = np.asarray(losses)
            if not np.isfinite(losses).all():
                diverged_at = step + int(np.argmin(np.isfinite(losses)))
            step += length
            row = {"step": step, "train_loss": losses.mean()}
            if hasattr(model, "mass_matrix"):
                row["smallest_mass_eigenvalue"] = float(self.watch(model, self.watched.x[:, 0], self.watched.c))
            rows.append(row)
            report(step, float(losses[-1]))
        history = {name: np.array([row[name] for row in rows]) for name in rows[0]}
        return Trained(model, history, float(self.validation_loss(model, self.validation)), diverged_at)


def _first_states(batch: Batch, states: int, lattice: bool) -> Batch:
    _, span, _, dof = batch.x.shape
    return jax.tree.map(lambda a: a[: max(1, states // (span * (dof if lattice else 1)))], batch)


def smallest_mass_eigenvalue(model, x, c):
    """Least eigenvalue of the learnt mass matrix over the states x [n, 2, dof], in units in which velocities have unit spread."""
    return jnp.linalg.eigvalsh(jax.vmap(model.mass_matrix)(x, c)).min()
