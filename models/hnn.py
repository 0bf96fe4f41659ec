"""Hamiltonian neural network, given true canonical momenta."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar

from models import _model
from models._model import VectorField
from models._networks import QuadraticForm, Scalar, Shape
from systems import _mechanics as mechanics


@dataclass(frozen=True)
class Settings(_model.Settings):
    shape: Shape = Shape(width=48)  # of N, which on a ring is all there is and has ring_width
    head: Shape | None = Shape(width=32)  # of B and V; None: N alone
    products: int = 8  # terms (u_k·h)² in which N reads its last hidden layer


PLAIN = replace(Settings(), shape=Shape(), head=None, products=0)


class HNN(VectorField):
    r"""H_θ(q, p, c) = σ [N(q, p, c) + ½ uᵀ B(q, c) u + V(q, c)],   q̇ = ∂H/∂p,   ṗ = −∂H/∂q

    u = p in units of its spread, σ the spread of q̇ times that of p. B is any symmetric matrix; N alone can be any Hamiltonian, so that B and V
    restrict nothing. On a lattice H is a density, N alone. Source: Greydanus et al. 2019, whose H is N (variant `plain`). It is handed the true p,
    which a measurement of velocities doesn't give; `hnn_naive` is not.

    Note: is given true momenta, and its rates are carried back to velocities by the true chart: more information than the others get. On the
    ring p = v, so that it and the naive one are the same model there, with another learning rate.
    """

    chart = "qp"
    settings = Settings(learning_rate=2e-2)
    paper = replace(PLAIN, shape=Shape(width=500, ring_width=500), learning_rate=1e-3, normalise=False)
    variants: ClassVar[Mapping[str, _model.Settings]] = {"plain": replace(PLAIN, learning_rate=2e-2)}

    def __init__(self, spec, scales, settings, *, rngs):
        super().__init__(spec, scales, settings, rngs=rngs)
        self.network = Scalar(spec, scales, settings.shape, rngs=rngs, products=settings.products)
        self.head = None if spec.lattice or settings.head is None else QuadraticForm(spec, scales, settings.head, rngs=rngs)
        self.unit = prod(q * p for q, p in zip(scales.q, scales.v, strict=True)) ** (1 / len(scales.q))

    def hamiltonian(self, q, p, c):
        """H(q, p, c), on a lattice the density of the middle one of three sites."""
        kinetic, potential = self.head(q, p, c) if self.head else (0.0, 0.0)
        return self.unit * (self.network(q, p, c) + kinetic + potential)

    def derivative(self, x, c):
        return mechanics.hamilton(self.hamiltonian, x[0], x[1], c, self.spec.lattice)

    def energy(self, x, c):
        """H at (q, p), the model's own."""
        return mechanics.total(self.hamiltonian, self.spec.lattice)(x[0], x[1], c)


MODEL = HNN
