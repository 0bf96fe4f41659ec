"""Charged particle in a plane, in a magnetic field that grows across it, held by a spring."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from systems import Adams, Recording, Spec, System


@dataclass(frozen=True)
class MagneticCharge(System):
    r"""L = ½(ẋ² + ẏ²) + B₀(x + x²/2ℓ) ẏ − ½k(x² + y²),   ẍ = B ẏ − k x,   ÿ = −B ẋ − k y,   B = B₀(1 + x/ℓ)

    Units of charge and mass. q = (x, y) [m], v = (ẋ, ẏ) [m/s]. A force at right angles to the velocity: no potential gives it, the energy
    ½v² + ½k r² does not know of it, and p = v + A is not a measured velocity. Source: Landau and Lifshitz, vol. 2, sections 16 and 17.
    """

    field_strength: float = 2.0  # B₀, 1/s
    length: float = 2.0  # ℓ, m
    k: float = 1.0  # 1/s²

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
        x, y = q
        potential = self.field_strength * (x + 0.5 * x**2 / self.length)  # A_y, whose curl is B
        return 0.5 * v @ v + potential * v[1] - 0.5 * self.k * (x**2 + y**2)

    def sample_initial(self, key):
        """q, v ~ U[−1, 1)²."""
        return jax.random.uniform(key, (2, 2), minval=-1), jnp.zeros(0)

    def sample_state(self, key):
        """The same law."""
        return self.sample_initial(key)

    def energy_scale(self, x, c):
        """The mean energy of the starts."""
        return jnp.full(x.shape[0], jax.vmap(self.energy)(x, c).mean())


SYSTEM = MagneticCharge()
