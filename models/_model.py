"""What a model is: a continuous-time field of one state, or a map over one frame."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from models._networks import Scales, Shape
from systems._rows import UnknownName
from systems._system import Chart, Context, Spec, State


class Batch(NamedTuple):
    """Segments of true trajectories in the model's chart: states, their rates, and one context each."""

    x: Float[Array, "batch time 2 dof"]
    rate: Float[Array, "batch time 2 dof"]
    c: Float[Array, "batch context"]


@dataclass(frozen=True)
class Settings:
    """Hyper-parameters that every model has; its file gives its own values, and may add to them. `bench tune` chose the learning rate."""

    shape: Shape = Shape()
    learning_rate: float = 1e-2
    normalise: bool = True  # states and rates in units of their spread in the training data, or as they are


class Model(nnx.Module):
    """A model of one system: built from the system's `Spec` and training statistics, trained by its `loss`.

    It is a plain pytree (`jax.jit`, `grad`, `vmap` act on it) and doesn't change after `__init__`. Methods take ONE state.
    """

    chart: ClassVar[Chart] = "qv"  # of the states it takes: "qp" if it is given true momenta
    settings: ClassVar[Settings] = Settings()
    paper: ClassVar[Settings] = Settings()  # as published, for the preset `paper`
    variants: ClassVar[Mapping[str, Settings]] = {}  # others that can be asked for by name (`--hyperparameters`)

    def __init__(self, spec: Spec, scales: Scales, settings, *, rngs: nnx.Rngs):
        self.spec, self.scales = spec, scales

    @classmethod
    def settings_called(cls, name: str) -> Settings:
        """`default` or `paper`, or one of its variants. Raises `UnknownName`."""
        known = {"default": cls.settings, "paper": cls.paper, **cls.variants}
        if name not in known:
            raise UnknownName("hyperparameters", name, tuple(known))
        return known[name]

    @classmethod
    def note(cls) -> str:
        """What a reader of the table must know: the paragraph of the class's docstring that begins with "Note: "."""
        _, _, text = (cls.__doc__ or "").partition("Note: ")
        return " ".join(text.partition("\n\n")[0].split())

    @classmethod
    def span(cls, segment: int) -> int:
        """Successive frames that `loss` needs: one for a model that learns from derivatives, `segment` for one that learns from rollouts."""
        return 1

    def loss(self, batch: Batch, progress: Float[Array, ""]) -> Float[Array, ""]:
        """What training makes small; `progress` runs from 0 to 1 over training."""
        raise NotImplementedError

    def rate_scale(self, x: Float[Array, "... 2 dof"]) -> Float[Array, "2 dof"]:
        """Spread of ẋ, one row for q̇ and one for v̇ (or ṗ)."""
        scale = jnp.array([self.scales.q, self.scales.rate], x.dtype)
        return jnp.broadcast_to(scale, (2, x.shape[-1]))


class VectorField(Model):
    """A continuous-time model, ẋ = f(x, c), that learns from derivatives unless it says otherwise."""

    def derivative(self, x: State, c: Context) -> State:
        """ẋ in the model's chart."""
        raise NotImplementedError

    def loss(self, batch: Batch, progress: Float[Array, ""]) -> Float[Array, ""]:
        """Mean over states and coordinates of |ẋ̂ − ẋ| in units of its spread."""
        predicted = jax.vmap(jax.vmap(self.derivative, (0, None)))(batch.x, batch.c)
        return jnp.abs((predicted - batch.rate) / self.rate_scale(batch.x)).mean()
