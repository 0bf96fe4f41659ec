"""The particle of `planar_particle` in randomly warped coordinates."""

from dataclasses import dataclass

from systems import PointTransformed, Spec, System, Warp
from systems.planar_particle import SYSTEM as CARTESIAN


@dataclass(frozen=True)
class PlanarWarped(PointTransformed):
    r"""(x, y) = φ(Q), φ a smooth random change of coordinates with ‖D(φ − id)‖ ≤ ½ (`Warp`):   L' = ½ VᵀDφᵀDφ V − V(φ(Q))   [J per kg]"""

    base: System = CARTESIAN
    warp: Warp = Warp(seed=0, wavenumber=2.0)

    spec = Spec(dof=2)
    recording = CARTESIAN.recording

    def to_base(self, q):
        return self.warp(q)


SYSTEM = PlanarWarped()
