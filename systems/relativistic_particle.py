"""Relativistic particle in a uniform field, in units of its mass and of the speed of light."""

from dataclasses import dataclass, replace
from typing import Literal

import jax
import jax.numpy as jnp

from systems import Adams, Recording, Spec, System


@dataclass(frozen=True)
class RelativisticParticle(System):
    r"""physical: L = −√(1−v²) + g q,          v̇ = g(1−v²)^{3/2}
    paper:    L = (1−v²)^{−1/2} − 1 + g q,  v̇ = g(1−v²)^{5/2}/(1+2v²)

    q position [c²/unit force], v velocity [c], context c = (g) [unit force]. The second is what Cranmer et al. 2020 (section 5) print and
    code; it is not relativity, and serves reproduction. Both have p(t) = p₀ + g t.
    """

    variant: Literal["physical", "paper"] = "physical"

    spec = Spec(dof=1, context=1)
    recording = Recording(
        trajectories=4000,
        duration=1.0,
        frame=0.02,
        starts=64,
        horizon=1.0,
        evaluation_frame=0.02,
        substeps=4,
        window=1.0,
        integrator=Adams(5, evaluations=1),
    )

    def lagrangian(self, q, v, c):
        root = jnp.sqrt(1 - v[0] ** 2)
        free = -root if self.variant == "physical" else 1 / root - 1
        return free + c[0] * q[0]

    def sample_initial(self, key):
        """q₀ ~ U[−10, 10]; p(0) and p(1 s) = sinh(clip(2·N(0, 1), ±2)), which sets g.

        Drawing g freely puts a third of all states above |v| = 0.995, where single precision knows nothing of 1 − v².
        """
        key_q, key_p = jax.random.split(key)
        q = jax.random.uniform(key_q, (1,), minval=-10, maxval=10)
        start, end = jnp.sinh(jnp.clip(2 * jax.random.normal(key_p, (2, 1)), -2, 2))
        g = (end - start) / self.recording.duration
        return jnp.stack([q, self.velocity(q, start, g)]), g

    def sample_state(self, key):
        """q ~ U[−10, 10], rapidity ~ 2·N(0, 1), g ~ 10·N(0, 1), as published."""
        key_q, key_v, key_g = jax.random.split(key, 3)
        q = jax.random.uniform(key_q, (1,), minval=-10, maxval=10)
        v = jnp.tanh(2 * jax.random.normal(key_v, (1,)))
        return jnp.stack([q, v]), 10 * jax.random.normal(key_g, (1,))

    def energy_scale(self, x, c):
        """Standard deviation of the energy over the starts."""
        return jnp.full(x.shape[0], jax.vmap(self.energy)(x, c).std())

    def admissible(self, x):
        """Slower than light."""
        return jnp.isfinite(x).all() & (jnp.abs(x[1]) < 1).all()

    def paper(self):
        return replace(self, variant="paper")


SYSTEM = RelativisticParticle()
