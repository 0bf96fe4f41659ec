"""Hamiltonian neural network, given true canonical momenta."""

from math import prod

from models import Scalar, Settings, Shape, VectorField
from systems import mechanics


class HNN(VectorField):
    r"""H_θ(q, p, c) = σ N_θ(q, p, c),   q̇ = ∂H/∂p,   ṗ = −∂H/∂q,   σ the spread of q̇ times that of p

    Source: Greydanus et al. 2019. It is handed the true p, which a measurement of velocities doesn't give; `hnn_naive` is not.

    Note: is given true momenta, and its rates are carried back to velocities by the true chart: more information than the others get. On the
    ring p = v, so that it and the naive one are the same model there, with another learning rate.
    """

    chart = "qp"
    settings = Settings(learning_rate=2e-2)
    paper = Settings(shape=Shape(width=500, ring_width=500), learning_rate=1e-3, normalise=False)

    def __init__(self, spec, scales, settings, *, rngs):
        super().__init__(spec, scales, settings, rngs=rngs)
        self.network = Scalar(spec, scales, settings.shape, rngs=rngs)
        self.unit = prod(q * p for q, p in zip(scales.q, scales.v, strict=True)) ** (1 / len(scales.q))

    def hamiltonian(self, q, p, c):
        """H(q, p, c), on a lattice the density of the middle one of three sites."""
        return self.unit * self.network(q, p, c)

    def derivative(self, x, c):
        return mechanics.hamilton(self.hamiltonian, x[0], x[1], c, self.spec.lattice)

    def energy(self, x, c):
        """H at (q, p), the model's own."""
        return mechanics.total(self.hamiltonian, self.spec.lattice)(x[0], x[1], c)


MODEL = HNN
