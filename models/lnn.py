"""Lagrangian neural network."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp

from models import LagrangianModel, Scalar, Shape, force_likelihood, half_square
from models import Settings as Common
from systems import mechanics

Objective = Literal["force_likelihood", "forward_error", "log_forward_error"]


@dataclass(frozen=True)
class Settings(Common):
    learning_rate: float = 2e-2
    positive_start: bool = True
    first: Objective = "force_likelihood"  # what training makes small up to `switch`; on a lattice `last` alone
    last: Objective = "log_forward_error"
    switch: float = 0.75  # share of the training
    volume_share: float = 0.125  # of a batch, on which log det A is taken: a force costs one product with the Hessian, A as many as dof


# from the published recipe to the one here, a step at a time
PUBLISHED = Settings(Shape(init="lnn_paper"), 1e-3, normalise=False, positive_start=False, first="forward_error", last="forward_error")
POSITIVE_START = replace(PUBLISHED, shape=Shape(), positive_start=True)
NORMALISED = replace(POSITIVE_START, normalise=True)
FORCE_LIKELIHOOD = replace(NORMALISED, first="force_likelihood")
LOG_FORWARD_ERROR = replace(FORCE_LIKELIHOOD, last="log_forward_error")


class LNN(LagrangianModel):
    r"""L_θ(q, v, c) = N_θ(q, v, c) + ½‖v‖²,   v̇ = (∂²L/∂v²)⁻¹ (∂L/∂q − (∂²L/∂v∂q) v)

    v in units of its spread. ½‖v‖² starts the mass matrix positive and restricts nothing, since N_θ can cancel it. On a lattice L is a density.
    Trained on the force likelihood (`models/_likelihood.py`) first, on the log of the forward error at the end; on a lattice on the latter alone.
    Source: Cranmer et al. 2020, eq. 6; as published (`paper`) it trains on the plain forward error from a random start. The variants lead from
    there to here one step at a time (`bench published`).
    """

    settings = Settings()
    paper = replace(PUBLISHED, shape=Shape(width=500, ring_width=500, init="lnn_paper"))
    variants: ClassVar[Mapping[str, Common]] = {
        "as_published": PUBLISHED,
        "positive_start": POSITIVE_START,
        "normalised": NORMALISED,
        "force_likelihood": FORCE_LIKELIHOOD,
        "log_forward_error": LOG_FORWARD_ERROR,
        "forward_error_alone": replace(settings, first="forward_error", last="forward_error"),
    }

    def __init__(self, spec, scales, settings, *, rngs):
        super().__init__(spec, scales, settings, rngs=rngs)
        self.positive_start, self.switch = settings.positive_start, settings.switch
        self.first, self.last = settings.last if spec.lattice else settings.first, settings.last
        self.volume_share = settings.volume_share
        self.network = Scalar(spec, scales, settings.shape, rngs=rngs)

    def lagrangian(self, q, v, c):
        return self.network(q, v, c) + self.positive_start * half_square(v, self.scales.v)

    def loss(self, batch, progress):
        first, last = getattr(self, self.first), getattr(self, self.last)
        return last(batch) if self.first == self.last else jax.lax.cond(progress < self.switch, first, last, batch)

    def forward_error(self, batch):
        """⟨|v̇ error|⟩, in units of twice the spread of v̇: q̇ = v is right by construction, and counts."""
        return super().loss(batch, jnp.ones(()))

    def force_likelihood(self, batch):
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
        return self.spec.dof * jnp.log(2 * self.forward_error(batch))


MODEL = LNN
