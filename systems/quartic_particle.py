"""Particle in a plane whose kinetic energy is quartic in its velocity."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from systems import Adams, Recording, Spec, System


@dataclass(frozen=True)
class QuarticParticle(System):
    r"""L = ½v² + ¼β v⁴ − ½(k₁x² + k₂y²) − ½x²y²,   [(1 + βv²) I + 2β v vᵀ] a = −∇V

    q = (x, y) [m], v = (ẋ, ẏ) [m/s], unit mass. The mass grows with the speed, so that no quadratic kinetic energy gives the motion, and
    p = (1 + βv²) v is not a measured velocity.
    """

    beta: float = 1.0  # s²/m²
    k1: float = 1.0  # 1/s²
    k2: float = 2.0  # 1/s²

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
        (x, y), v2 = q, v @ v
        return 0.5 * v2 + 0.25 * self.beta * v2**2 - 0.5 * (self.k1 * x**2 + self.k2 * y**2) - 0.5 * (x * y) ** 2

    def sample_initial(self, key):
        """q ~ U[−1.5, 1.5)², v ~ U[−1.5, 1.5)²."""
        return jax.random.uniform(key, (2, 2), minval=-1.5, maxval=1.5), jnp.zeros(0)

    def sample_state(self, key):
        """The same law."""
        return self.sample_initial(key)

    def energy_scale(self, x, c):
        """The mean energy of the starts."""
        return jnp.full(x.shape[0], jax.vmap(self.energy)(x, c).mean())


SYSTEM = QuarticParticle()
