"""Hamiltonian neural network that takes the velocity for the momentum."""

from models.hnn import HNN


class NaiveHNN(HNN):
    r"""H_θ(q, v, c),   q̇ = ∂H/∂v,   v̇ = −∂H/∂q

    Right where p = v, wrong elsewhere: what happens to an HNN when no momenta are measured. Source: Cranmer et al. 2020, figure 3.
    """

    chart = "qv"
    note = "takes velocities for momenta: right on the ring, where they are equal, and wrong elsewhere, in q̇ too"


MODEL = NaiveHNN
