"""Deep Lagrangian network: a learnt mass matrix and a learnt potential."""

import jax
import jax.numpy as jnp
import numpy as np

from models import LagrangianModel, Local, Scalar, Settings, Shape

OFFSET = 1e-2  # smallest diagonal entry of C, in units in which a typical mass is 1


class DeLaN(LagrangianModel):
    r"""L = ½ vᵀM(q)v − V(q),   M = C Cᵀ, C(q) lower triangular, its diagonal softplus(·) + 0.01; v in units of its spread

    On a ring T = Σ_i ½(a_i v_i + b_i v_{i+1})² + ½ 10⁻⁴ v_i², which commutes with shifts as a Cholesky factor would not.
    Exact for the double pendulum; cannot express either relativistic Lagrangian. Trained on the forward error of v̇, since without
    torques the inverse error alone is least at M → 0. Source: Lutter et al. 2019.

    Note: its energy is quadratic in velocities. That is exact for the pendulum and the ring, and cannot express the relativistic particle,
    where the best that it can do is v̇ = g(α − βv²), near the best constant multiple of the field.
    """

    settings = Settings(shape=Shape(width=48, ring_width=48), learning_rate=2e-2)  # two networks: about as many parameters as the others
    paper = Settings(shape=Shape(width=500, ring_width=500), normalise=False)

    def __init__(self, spec, scales, settings, *, rngs):
        super().__init__(spec, scales, settings, rngs=rngs)
        entries = 2 if spec.lattice else spec.dof * (spec.dof + 1) // 2
        self.factors = Local(spec, scales, entries, settings.shape, rngs=rngs, velocity=False)
        self.potential = Scalar(spec, scales, settings.shape, rngs=rngs, velocity=False)

    def lagrangian(self, q, v, c):
        u = v / jnp.array(self.scales.v, v.dtype)
        entries = self.factors(q, None, c)
        if self.spec.lattice:
            a = positive(entries[0])
            kinetic = 0.5 * (a * u[1] + entries[1] * u[2]) ** 2 + 0.5 * OFFSET**2 * u[1] ** 2
        else:
            diagonal, below = positive(entries[: self.spec.dof]), entries[self.spec.dof :]
            C = jnp.diag(diagonal).at[np.tril_indices(self.spec.dof, -1)].set(below)
            kinetic = 0.5 * ((C.T @ u) ** 2).sum()
        return kinetic - self.potential(q, None, c)


def positive(x):
    """softplus(x + 0.54) + 0.01: about 1 at x = 0, so that the mass matrix starts near the identity."""
    return jax.nn.softplus(x + 0.5413) + OFFSET


MODEL = DeLaN
