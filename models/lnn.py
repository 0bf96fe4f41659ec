"""Lagrangian neural network."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp

from models import EnergySettings, EnergyTerms, LagrangianModel, Shape, either, force_likelihood, half_square
from models import Settings as Common
from systems import mechanics

Objective = Literal["force_likelihood", "forward_error", "log_forward_error"]


@dataclass(frozen=True)
class Settings(EnergySettings):
    learning_rate: float = 2e-2
    muon_rate: float = 2e-2
    positive_start: bool = True
    first: Objective = "force_likelihood"  # what training makes small up to `switch`; on a lattice `last` alone
    last: Objective = "log_forward_error"
    switch: float = 0.75  # share of the training
    volume_share: float = 0.125  # of a batch, on which log det A is taken: a force costs one product with the Hessian, A as many as dof


# from the published recipe to the one here, a step at a time
PLAIN = Settings(shape=Shape(), head=None, products=0)
PUBLISHED = replace(PLAIN, shape=Shape(init="lnn_paper"), normalise=False, positive_start=False, first="forward_error", last="forward_error")
POSITIVE_START = replace(PUBLISHED, shape=Shape(), positive_start=True)
NORMALISED = replace(POSITIVE_START, normalise=True)
FORCE_LIKELIHOOD = replace(NORMALISED, first="force_likelihood")


class LNN(LagrangianModel):
    r"""L_θ(q, v, c) = ½‖u‖² + N(q, u, c) + ½ uᵀ M(q, c) u − V(q, c),   v̇ = (∂²L/∂v²)⁻¹ (∂L/∂q − (∂²L/∂v∂q) v)

    u = v in units of its spread. ½‖u‖² starts the mass matrix positive. M is any symmetric matrix, not a positive one, and N alone can be any
    Lagrangian, so that it can cancel all the rest: nothing is restricted. On a lattice L is a density, ½‖u‖² + N. Trained on the force likelihood
    (`models/_likelihood.py`) first, on the log of the forward error at the end; on a lattice on the latter alone.
    Source: Cranmer et al. 2020, eq. 6; as published (`paper`) L is N alone, trained on the plain forward error from a random start. The variants
    lead from there to here one step at a time (`bench published`).
    """

    settings = Settings()
    paper = replace(PUBLISHED, shape=Shape(width=500, ring_width=500, init="lnn_paper"))
    variants: ClassVar[Mapping[str, Common]] = {
        "as_published": PUBLISHED,
        "positive_start": POSITIVE_START,
        "normalised": NORMALISED,
        "force_likelihood": FORCE_LIKELIHOOD,
        "plain": PLAIN,
        "head": replace(settings, products=0),
        "forward_error_alone": replace(settings, first="forward_error", last="forward_error"),
    }

    def __init__(self, spec, scales, settings, *, rngs):
        super().__init__(spec, scales, settings, rngs=rngs)
        self.positive_start, self.switch = settings.positive_start, settings.switch
        self.first, self.last = settings.last if spec.lattice else settings.first, settings.last
        self.volume_share = settings.volume_share
        self.terms = EnergyTerms(spec, scales, settings.shape, settings.head, settings.products, rngs=rngs)

    def lagrangian(self, q, v, c):
        N, T, V = self.terms(q, v, c)
        return self.positive_start * half_square(v, self.scales.v) + N + T - V

    def loss(self, batch, progress):
        first, last = getattr(type(self), self.first), getattr(type(self), self.last)
        return last(self, batch) if self.first == self.last else either(first, last, progress < self.switch, self, batch)

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
