"""What a model is: a continuous-time field of one state, or a map over one frame."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from models._networks import Scales, Shape
from systems._integrators import advance, rollout
from systems._rows import UnknownName
from systems._system import Chart, Context, Spec, State, System

Signal = Literal["own", "derivatives", "frames"]  # what a model learns from: what its file says, true derivatives, or frames alone


class Batch(NamedTuple):
    """Segments of true trajectories in the model's chart: states, their rates, and one context each."""

    x: Float[Array, "batch time 2 dof"]
    rate: Float[Array, "batch time 2 dof"]
    c: Float[Array, "batch context"]


@dataclass(frozen=True)
class Settings:
    """Hyper-parameters that every model has; its file gives its own values, and may add to them. `bench tune` chose the learning rates."""

    shape: Shape = Shape()
    learning_rate: float = 1e-2  # of SOAP
    muon_rate: float = 1e-2
    adam_rate: float = 1e-3
    normalise: bool = True  # states and rates in units of their spread in the training data, or as they are
    longest_step: float = 0.35  # of the solver where a field learns from frames, in the time in which velocities change: 2 in a frame of the pendulum

    def rate_of(self, optimizer: str) -> float:
        """The learning rate of soap, muon or adam."""
        return {"soap": self.learning_rate, "muon": self.muon_rate, "adam": self.adam_rate}[optimizer]


@dataclass(frozen=True)
class EnergySettings(Settings):
    """Hyper-parameters of a model whose network is an energy or a Lagrangian (`EnergyTerms`)."""

    shape: Shape = Shape(width=48)  # of N, which on a ring is all there is and has `ring_width`
    head: Shape | None = Shape(width=32)  # of M and V; None: N alone
    products: int = 8  # squares of further outputs of its network that N is made of


class Model(nnx.Module):
    """A model of one system: built from the system's `Spec` and training statistics, trained by its `loss`.

    It is a plain pytree (`jax.jit`, `grad`, `vmap` act on it) and doesn't change after `__init__`. Methods take ONE state.
    """

    chart: ClassVar[Chart] = "qv"  # of the states it takes: "qp" if it is given true momenta
    settings: ClassVar[Settings] = Settings()
    paper: ClassVar[Settings] = Settings()  # as published, for the preset `paper`
    variants: ClassVar[Mapping[str, Settings]] = {}  # others that can be asked for by name (`--hyperparameters`)
    signals: ClassVar[tuple[Signal, ...]] = ("own",)  # what it can be trained on
    own_signal: ClassVar[Signal] = "derivatives"  # what its own loss learns from

    def __init__(self, spec: Spec, scales: Scales, settings, *, rngs: nnx.Rngs):
        self.spec, self.scales = spec, scales

    @classmethod
    def applies(cls, system: System) -> str:
        """Why it cannot be asked to learn a system; "" where it can. Such a cell is shown as n/a with the reason, and is not run."""
        return ""

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
    def span(cls, segment: int, signal: Signal = "own") -> int:
        """Successive frames that a loss needs: one if it learns from derivatives, `segment` if from the frames of a rollout."""
        return segment if (cls.own_signal if signal == "own" else signal) == "frames" else 1

    def loss(self, batch: Batch, progress: Float[Array, ""]) -> Float[Array, ""]:
        """What training makes small, in the model's own signal; `progress` runs from 0 to 1 over training."""
        raise NotImplementedError

    def loss_from(self, signal: Signal, batch: Batch, progress: Float[Array, ""]) -> Float[Array, ""]:
        """What training makes small, in one of the model's `signals`."""
        return self.loss(batch, progress)

    def rate_scale(self, x: Float[Array, "... 2 dof"]) -> Float[Array, "2 dof"]:
        """Spread of ẋ, one row for q̇ and one for v̇ (or ṗ)."""
        scale = jnp.array([self.scales.q, self.scales.rate], x.dtype)
        return jnp.broadcast_to(scale, (2, x.shape[-1]))


def either(first: Callable, last: Callable, early, model: Model, batch: Batch) -> Float[Array, ""]:
    """first(model, batch) while `early`, last(model, batch) afterwards: the losses of two phases of a training. Differentiable by the model alone.

    Each gradient is taken within its branch. The gradient of a condition keeps room for what either branch has to remember, which compiles half as
    fast and holds the compiler back from making one of a loss and its gradient.
    """
    return _either(first, last, early, model, batch)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _either(first, last, early, model, batch) -> Any:
    return jax.lax.cond(early, first, last, model, batch)


def _forward(first, last, early, model, batch):
    return jax.lax.cond(early, jax.value_and_grad(first), jax.value_and_grad(last), model, batch)


def _backward(first, last, gradient, cotangent):
    return None, jax.tree.map(lambda slope: cotangent * slope, gradient), None


_either.defvjp(_forward, _backward)


class VectorField(Model):
    """A continuous-time model, ẋ = f(x, c), that learns from derivatives unless it says otherwise."""

    signals = ("own", "derivatives", "frames")

    def __init__(self, spec: Spec, scales: Scales, settings, *, rngs: nnx.Rngs):
        super().__init__(spec, scales, settings, rngs=rngs)
        changes = max(rate / v for rate, v in zip(scales.rate, scales.v, strict=True))  # 1/s
        self.substeps = ceil(scales.frame * changes / settings.longest_step)  # of the solver, in a frame that it learns from

    def derivative(self, x: State, c: Context) -> State:
        """ẋ in the model's chart."""
        raise NotImplementedError

    def loss(self, batch: Batch, progress: Float[Array, ""]) -> Float[Array, ""]:
        """That of `own_signal`."""
        return self.rollout_loss(batch) if self.own_signal == "frames" else self.derivative_loss(batch)

    def loss_from(self, signal: Signal, batch: Batch, progress: Float[Array, ""]) -> Float[Array, ""]:
        if signal == "own":
            return self.loss(batch, progress)
        return self.rollout_loss(batch) if signal == "frames" else self.derivative_loss(batch)

    def derivative_loss(self, batch: Batch) -> Float[Array, ""]:
        """Mean over states and coordinates of |ẋ̂ − ẋ| in units of its spread."""
        predicted = jax.vmap(jax.vmap(self.derivative, (0, None)))(batch.x, batch.c)
        return jnp.abs((predicted - batch.rate) / self.rate_scale(batch.x)).mean()

    def rollout_loss(self, batch: Batch) -> Float[Array, ""]:
        """Mean |x̂ − x| over the frames of a segment after its first, in units of the spread of the change that a frame brings.

        x̂ is the model's motion from the first frame, in its own chart, and the gradient goes through the solver: derivatives are not looked at.
        """
        frame, frames = self.scales.frame, batch.x.shape[1] - 1

        def predict(x, c):
            return rollout(lambda x: advance(lambda x: self.derivative(x, c), x, frame, self.substeps), x, frames)

        predicted = jax.vmap(predict)(batch.x[:, 0], batch.c)
        return jnp.abs((predicted - batch.x[:, 1:]) / (frame * self.rate_scale(batch.x))).mean()
