"""The double pendulum in mildly warped angles."""

from dataclasses import dataclass

from systems import PointTransformed, System, Warp
from systems.double_pendulum import SYSTEM as ABSOLUTE


@dataclass(frozen=True)
class PendulumWarped(PointTransformed):
    r"""(θ₁, θ₂) = φ(Q), φ a smooth random change of angles with ‖D(φ − id)‖ ≤ ½ and φ(Q + 2π) = φ(Q) + 2π (`Warp`)"""

    base: System = ABSOLUTE
    warp: Warp = Warp(seed=0)

    spec = ABSOLUTE.spec
    recording = ABSOLUTE.recording

    def to_base(self, q):
        return self.warp(q)


SYSTEM = PendulumWarped()
