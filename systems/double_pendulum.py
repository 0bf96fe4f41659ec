"""Double pendulum: two point masses on massless rods in a plane."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from systems import Adams, Recording, Spec, System


@dataclass(frozen=True)
class DoublePendulum(System):
    r"""L = ½(m₁+m₂)l₁²ω₁² + ½m₂l₂²ω₂² + m₂l₁l₂ω₁ω₂cos(θ₁−θ₂) + (m₁+m₂)g l₁cosθ₁ + m₂g l₂cosθ₂   [J]

    q = (θ₁, θ₂) [rad] from straight down, v = (ω₁, ω₂) [rad/s].
    Source: Cranmer et al. 2020, section 5; evaluated on 40 starts nearly at rest for 100 s, as its public code does.
    Trained, unlike there, on trajectories of 10 s from rest (preset `paper`: independent states, ω up to 10 rad/s).
    """

    m1: float = 1.0  # kg
    m2: float = 1.0  # kg
    l1: float = 1.0  # m
    l2: float = 1.0  # m
    g: float = 9.8  # m/s²

    spec = Spec(dof=2, angles=(True, True))
    # steps of 1/480 s change learnt energies by a few 1e-6 over 100 s, less than a tenth of the best models' true error;
    # window: two to five Lyapunov times
    recording = Recording(
        trajectories=6000,
        duration=10.0,
        frame=0.1,
        starts=40,
        horizon=100.0,
        evaluation_frame=0.1,
        substeps=48,
        window=5.0,
        integrator=Adams(5, evaluations=1),
    )

    def lagrangian(self, q, v, c):
        (θ1, θ2), (ω1, ω2) = q, v
        kinetic = 0.5 * (self.m1 + self.m2) * (self.l1 * ω1) ** 2 + 0.5 * self.m2 * (self.l2 * ω2) ** 2
        coupling = self.m2 * self.l1 * self.l2 * ω1 * ω2 * jnp.cos(θ1 - θ2)
        potential = -(self.m1 + self.m2) * self.g * self.l1 * jnp.cos(θ1) - self.m2 * self.g * self.l2 * jnp.cos(θ2)
        return kinetic + coupling - potential

    def sample_initial(self, key):
        """θ ~ U[−π, π)², at rest."""
        θ = jax.random.uniform(key, (2,), minval=-jnp.pi, maxval=jnp.pi)
        return jnp.stack([θ, jnp.zeros(2)]), jnp.zeros(0)

    def sample_state(self, key):
        """θ ~ U[0, 2π)², ω ~ U[−10, 10)²."""
        draw = jax.random.uniform(key, (2, 2))
        return jnp.stack([2 * jnp.pi * draw[0], 20 * draw[1] - 10]), jnp.zeros(0)

    def sample_evaluation(self, key, index):
        """θ ~ U[0, 2π)², ω ~ U[0, 0.1)²."""
        draw = jax.random.uniform(key, (2, 2))
        return jnp.stack([2 * jnp.pi * draw[0], 0.1 * draw[1]]), jnp.zeros(0)

    def false_symmetries(self):
        """A turn of both rods, which gravity does not allow."""
        return {"turn": lambda q: jnp.ones_like(q)}

    def energy_scale(self, x, c):
        """The largest potential energy, (m₁+m₂)g l₁ + m₂g l₂ = 29.4 J."""
        return jnp.full(x.shape[0], (self.m1 + self.m2) * self.g * self.l1 + self.m2 * self.g * self.l2)


SYSTEM = DoublePendulum()
