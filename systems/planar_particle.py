"""Particle in a plane under a central force, in Cartesian coordinates."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from systems import Adams, Recording, Spec, System


@dataclass(frozen=True)
class PlanarParticle(System):
    r"""L = ½(ẋ² + ẏ²) − ½k r² − ¼λ r⁴,   r² = x² + y²   [J per kg]

    q = (x, y) [m], v = (ẋ, ẏ) [m/s]. Here p = v, so that velocities are momenta; in `planar_polar` and `planar_warped` the same motions have other
    coordinates, and they are not. Conserves energy and angular momentum x ẏ − y ẋ.
    """

    k: float = 1.0  # 1/s²
    quartic: float = 1.0  # λ, 1/(m² s²)

    spec = Spec(dof=2)
    recording = Recording(
        trajectories=2000,
        duration=5.0,
        frame=0.1,
        starts=32,
        horizon=20.0,
        evaluation_frame=0.1,
        substeps=8,
        window=5.0,
        integrator=Adams(5, evaluations=1),
    )

    def lagrangian(self, q, v, c):
        r2 = q @ q
        return 0.5 * v @ v - 0.5 * self.k * r2 - 0.25 * self.quartic * r2**2

    def sample_initial(self, key):
        """r ~ U[0.7, 1.3), at any angle; radial velocity ~ U[−0.7, 0.7), tangential ~ ±U[0.7, 1.5): it passes the centre at a distance."""
        draw = jax.random.uniform(key, (5,))
        r, radial, tangential = 0.7 + 0.6 * draw[0], 1.4 * draw[1] - 0.7, 0.7 + 0.8 * draw[2]
        tangential = jnp.where(draw[3] < 0.5, tangential, -tangential)
        outwards = jnp.array([jnp.cos(2 * jnp.pi * draw[4]), jnp.sin(2 * jnp.pi * draw[4])])
        around = jnp.array([-outwards[1], outwards[0]])
        return jnp.stack([r * outwards, radial * outwards + tangential * around]), jnp.zeros(0)

    def sample_state(self, key):
        """The same law."""
        return self.sample_initial(key)

    def symmetries(self):
        """Rotation: its charge is the angular momentum."""
        return {"rotation": lambda q: jnp.array([-q[1], q[0]])}

    def false_symmetries(self):
        """A shift along x."""
        return {"shift": lambda q: jnp.array([1.0, 0.0])}

    def energy_scale(self, x, c):
        """The mean energy of the starts."""
        return jnp.full(x.shape[0], jax.vmap(self.energy)(x, c).mean())


SYSTEM = PlanarParticle()
