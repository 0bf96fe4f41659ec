"""Lagrangian neural network."""

from dataclasses import dataclass
from math import ceil
from typing import Literal

import jax
import jax.numpy as jnp

from models._lagrangian import LagrangianModel, half_square
from models._likelihood import force_likelihood
from models._networks import Scalar, Shape
from systems import _mechanics as mechanics


@dataclass(frozen=True)
class Settings:
    shape: Shape = Shape()
    learning_rate: float = 2e-2
    positive_start: bool = True
    objective: Literal["likelihood", "forward_error"] = "likelihood"
    switch: float = 0.75  # share of the training on the force likelihood, the rest on the log of the forward error
    volume_share: float = 0.125  # of a batch, on which log det A is taken: a force costs one product with the Hessian, A as many as dof


class LNN(LagrangianModel):
    r"""L_θ(q, v, c) = N_θ(q, v, c) + ½‖v‖²,   v̇ = (∂²L/∂v²)⁻¹ (∂L/∂q − (∂²L/∂v∂q) v)

    v in units of its spread. ½‖v‖² starts the mass matrix positive and restricts nothing, since N_θ can cancel it. On a lattice L is a density.
    Trained on the force likelihood (`models/_likelihood.py`) first, on the log of the forward error at the end; on a lattice on the latter alone.
    Source: Cranmer et al. 2020, eq. 6; as published (`paper`) it trains on the plain forward error from a random start.
    """

    settings = Settings()
    paper = Settings(shape=Shape(width=500, ring_width=500, init="lnn_paper"), learning_rate=1e-3, positive_start=False, objective="forward_error")

    def __init__(self, spec, scales, settings, *, rngs):
        super().__init__(spec, scales, settings, rngs=rngs)
        self.positive_start, self.objective, self.switch = settings.positive_start, settings.objective, settings.switch
        self.volume_share = settings.volume_share
        self.network = Scalar(spec, scales, settings.shape, rngs=rngs)

    def lagrangian(self, q, v, c):
        return self.network(q, v, c) + self.positive_start * half_square(v, self.scales.v)

    def loss(self, batch, progress):
        if self.objective == "forward_error":
            return super().loss(batch, progress)
        if self.spec.lattice:
            return self.log_forward_error(batch)
        return jax.lax.cond(progress < self.switch, self.likelihood, self.log_forward_error, batch)

    def likelihood(self, batch):
        """Force likelihood of the true accelerations; log det A on a share of the batch, where it saves something."""

        def with_volume(x, rate, c):
            A, pull = mechanics.expand_one(self.lagrangian, x[0], x[1], c)
            σ = self.velocity_scale(x)
            return A * σ * σ[:, None], (A @ rate[1] - pull) * σ

        def force(x, rate, c):
            return mechanics.missing_force(self.lagrangian, x[0], x[1], rate[1], c) * self.velocity_scale(x)

        x, rate = (a.reshape(-1, *a.shape[2:]) for a in (batch.x, batch.rate))
        c = jnp.repeat(batch.c, batch.x.shape[1], axis=0)
        few = ceil(self.volume_share * len(x)) if self.spec.dof > 1 else len(x)
        A, r = jax.vmap(with_volume)(x[:few], rate[:few], c[:few])
        if few < len(x):
            r = jnp.concatenate([r, jax.vmap(force)(x[few:], rate[few:], c[few:])])
        return force_likelihood(A, r)

    def log_forward_error(self, batch):
        """n log⟨|v̇ error|⟩, in units of the spread of v̇."""
        return self.spec.dof * jnp.log(2 * super().loss(batch, jnp.ones(())))


MODEL = LNN
