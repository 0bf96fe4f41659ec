"""The double pendulum with its second angle measured from the first rod."""

from dataclasses import dataclass

import jax.numpy as jnp

from systems import PointTransformed, System
from systems.double_pendulum import SYSTEM as ABSOLUTE


@dataclass(frozen=True)
class PendulumRelative(PointTransformed):
    r"""(θ₁, θ₂) = (Q₁, Q₁ + Q₂), both angles [rad]"""

    base: System = ABSOLUTE

    spec = ABSOLUTE.spec
    recording = ABSOLUTE.recording

    def to_base(self, q):
        return jnp.array([q[0], q[0] + q[1]])

    def from_base(self, q):
        return jnp.array([q[0], q[1] - q[0]])


SYSTEM = PendulumRelative()
