"""Random states of every system and small models of every kind: what statements about all of them are tried on."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import models
import systems
from models import Shape

HASTE = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}  # halves the time to compile what runs once


def compiled(function):
    """The function, compiled with little optimisation."""
    return jax.jit(function, compiler_options=HASTE)


def everywhere(function):
    """The function of one state for many, compiled."""
    return compiled(jax.vmap(function))


@cache
def _recorded_in_both_charts(system: str):
    physics = systems.get(system)

    def observe(key):
        x, c = physics.sample_state(key)
        rate = physics.field(x, c)
        return {chart: (physics.to_chart(x, c, chart), physics.rate_to_chart(rate, x, c, chart), c) for chart in ("qv", "qp")}

    return jax.tree.map(np.asarray, everywhere(observe)(jax.random.split(jax.random.key(7), 32)))


def recorded(system: str, chart: str = "qv"):
    """(x, ẋ, c) of 32 independent states in a chart, float64."""
    return _recorded_in_both_charts(system)[chart]


@cache
def scales(system: str, chart: str) -> models.Scales:
    """Spreads of such states; of all sites together on a lattice."""
    x, rate, c = recorded(system, chart)
    physics = systems.get(system)

    def spread(values, columns=physics.spec.dof):
        return tuple(float(σ) if σ > 1e-9 else 1.0 for σ in np.std(np.reshape(values, (-1, columns)), axis=0))

    context = spread(c, physics.spec.context) if physics.spec.context else ()
    return models.Scales(spread(rate[:, 0]), spread(x[:, 1]), spread(rate[:, 1]), context, physics.recording.frame)


def settings(model: type[models.Model]):
    """A model's own settings, its networks small."""
    small = {"shape": replace(model.settings.shape, width=16, ring_width=16, depth=2)}
    if getattr(model.settings, "head", None):
        small["head"] = Shape(width=8, depth=2)
    return replace(model.settings, **small)


@cache
def build(model: type[models.Model], system: str, seed: int = 0, dtype=None, spreads: models.Scales | None = None) -> models.Model:
    """The small random model of a seed, in the precision that it gives itself or in another."""
    made = model(systems.get(system).spec, spreads or scales(system, model.chart), settings(model), rngs=nnx.Rngs(params=seed))
    return jax.tree.map(lambda leaf: leaf.astype(dtype), made) if dtype else made


def batch(model: type[models.Model], system: str, dtype=jnp.float32) -> models.Batch:
    """Eight segments as long as the model needs, made of independent states."""
    x, rate, c = recorded(system, model.chart)
    length = model.span(4)
    count = 32 // 4
    x, rate = (a[: count * length].reshape(count, length, *a.shape[1:]) for a in (x, rate))
    return models.Batch(x.astype(dtype), rate.astype(dtype), c[:count].astype(dtype))
