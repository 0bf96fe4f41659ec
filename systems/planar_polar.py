"""The particle of `planar_particle` in polar coordinates."""

from dataclasses import dataclass

import jax.numpy as jnp

from systems import PointTransformed, Spec, System
from systems.planar_particle import SYSTEM as CARTESIAN


@dataclass(frozen=True)
class PlanarPolar(PointTransformed):
    r"""(x, y) = (r cosφ, r sinφ):   L' = ½(ṙ² + r²φ̇²) − ½k r² − ¼λ r⁴,   q = (r [m], φ [rad])"""

    base: System = CARTESIAN

    spec = Spec(dof=2, angles=(False, True))
    recording = CARTESIAN.recording

    def to_base(self, q):
        return q[0] * jnp.array([jnp.cos(q[1]), jnp.sin(q[1])])

    def from_base(self, q):
        return jnp.array([jnp.hypot(q[0], q[1]), jnp.arctan2(q[1], q[0])])


SYSTEM = PlanarPolar()
