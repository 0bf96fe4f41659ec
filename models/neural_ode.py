"""Neural ODE: a free field, trained through the solver."""

from dataclasses import dataclass
from math import ceil

import jax
import jax.numpy as jnp

from models import _model
from models._model import VectorField
from models._networks import Local, Shape
from systems._integrators import advance, rollout


@dataclass(frozen=True)
class Settings(_model.Settings):
    longest_step: float = 0.35  # of the solver in training, in units of the time in which velocities change: 2 steps in a frame of the pendulum


class NeuralODE(VectorField):
    r"""ẋ = σ f_θ(x, c), σ the spread of ẋ; both q̇ and v̇ are learnt

    Trained on short rollouts, the frames of a segment, by differentiating through the solver: it sees states and never a derivative.
    Source: Chen et al. 2018.

    Note: learns from rollouts over a segment of frames, never from derivatives, and has to learn q̇ = v too: other information than the others get.
    """

    settings = Settings()
    paper = Settings(shape=Shape(width=500, ring_width=500), learning_rate=1e-3, normalise=False)

    def __init__(self, spec, scales, settings, *, rngs):
        super().__init__(spec, scales, settings, rngs=rngs)
        changes = max(rate / v for rate, v in zip(scales.rate, scales.v, strict=True))  # 1/s
        self.substeps = ceil(scales.frame * changes / settings.longest_step)
        self.network = Local(spec, scales, 2 * spec.dof, settings.shape, rngs=rngs)

    @classmethod
    def span(cls, segment):
        return segment

    def derivative(self, x, c):
        rate = self.network.everywhere(x[0], x[1], c)  # [sites, 2·dof]
        return self.rate_scale(x) * rate.reshape(-1, 2, self.spec.dof).swapaxes(0, 1).reshape(2, -1)

    def loss(self, batch, progress):
        """Mean |x̂ − x| over the frames of a segment after its first, in units of the spread of the change that a frame brings."""
        frame, frames = self.scales.frame, batch.x.shape[1] - 1

        def predict(x, c):
            return rollout(lambda x: advance(lambda x: self.derivative(x, c), x, frame, self.substeps), x, frames)

        predicted = jax.vmap(predict)(batch.x[:, 0], batch.c)
        return jnp.abs((predicted - batch.x[:, 1:]) / (frame * self.rate_scale(batch.x))).mean()


MODEL = NeuralODE
