"""Hamiltonian neural network that takes the velocity for the momentum."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from models import EnergySettings, Settings
from models.hnn import HNN, PLAIN


class NaiveHNN(HNN):
    r"""H_θ(q, v, c),   q̇ = ∂H/∂v,   v̇ = −∂H/∂q

    Right where p = v, wrong elsewhere: what happens to an HNN when no momenta are measured. Source: Cranmer et al. 2020, figure 3.

    Note: takes velocities for momenta, which is right on the ring, and for a particle in Cartesian coordinates. Elsewhere its equations
    cannot express the motion, q̇ included (its field error counts both halves); what it conserves is its own energy, not the true one.
    """

    chart = "qv"
    settings = EnergySettings(learning_rate=5e-3, muon_rate=4e-2)
    variants: ClassVar[Mapping[str, Settings]] = {"plain": replace(PLAIN, learning_rate=5e-3, muon_rate=4e-2)}


MODEL = NaiveHNN
