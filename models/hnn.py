"""Hamiltonian neural network, given true canonical momenta."""

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import ClassVar

from models import EnergySettings, EnergyTerms, Settings, Shape, VectorField
from systems import mechanics

PLAIN = EnergySettings(shape=Shape(), head=None, products=0, learning_rate=4e-2, muon_rate=2e-2)


class HNN(VectorField):
    r"""H_θ(q, p, c) = σ [N(q, p, c) + ½ uᵀ M(q, c) u + V(q, c)],   q̇ = ∂H/∂p,   ṗ = −∂H/∂q

    u = p in units of its spread, σ the spread of q̇ times that of p. M is any symmetric matrix, and N alone can be any Hamiltonian, so that M and V
    restrict nothing. On a lattice H is a density, N alone. Source: Greydanus et al. 2019, whose H is N (variant `plain`). It is handed the true p,
    which a measurement of velocities doesn't give; `hnn_naive` is not.

    Note: is given true momenta, and its rates are carried back to velocities by the true chart: more information than the others get. On the
    ring p = v, so that it and the naive one are the same model there, with another learning rate.
    """

    chart = "qp"
    settings = EnergySettings(learning_rate=4e-2, muon_rate=2e-2)
    paper = replace(PLAIN, shape=Shape(width=500, ring_width=500), normalise=False)
    variants: ClassVar[Mapping[str, Settings]] = {"plain": PLAIN}

    def __init__(self, spec, scales, settings, *, rngs):
        super().__init__(spec, scales, settings, rngs=rngs)
        self.terms = EnergyTerms(spec, scales, settings.shape, settings.head, settings.products, rngs=rngs)
        self.unit = prod(q * p for q, p in zip(scales.q, scales.v, strict=True)) ** (1 / len(scales.q))

    def hamiltonian(self, q, p, c):
        """H(q, p, c), on a lattice the density of the middle one of three sites."""
        N, T, V = self.terms(q, p, c)
        return self.unit * (N + T + V)

    def derivative(self, x, c):
        return mechanics.hamilton(self.hamiltonian, x[0], x[1], c, self.spec.lattice)

    def energy(self, x, c):
        """H at (q, p), the model's own."""
        return mechanics.total(self.hamiltonian, self.spec.lattice)(x[0], x[1], c)


MODEL = HNN
