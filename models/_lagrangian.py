"""Models with a learnt Lagrangian: the truth's own operators act on it."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from models._model import VectorField
from systems import _mechanics as mechanics
from systems._cyclic import Bands


class LagrangianModel(VectorField):
    """v̇ = (∂²L/∂v²)⁻¹ (∂L/∂q − (∂²L/∂v∂q) v) for a learnt `lagrangian`, on a lattice a learnt density."""

    def lagrangian(self, q, v, c) -> Float[Array, ""]:
        """L(q, v, c), or the density of the middle one of three sites."""
        raise NotImplementedError

    def derivative(self, x, c):
        return jnp.stack([x[1], mechanics.euler_lagrange(self.lagrangian, x[0], x[1], c, lattice=self.spec.lattice)])

    def energy(self, x, c) -> Float[Array, ""]:
        """E = v·∂L/∂v − L, the model's own."""
        return mechanics.legendre(self.lagrangian, x[0], x[1], c, self.spec.lattice)

    def mass_matrix(self, x, c) -> Float[Array, "dof dof"]:
        """∂²L/∂v² in coordinates whose velocities have unit spread."""
        A = mechanics.expand(self.lagrangian, x[0], x[1], c, self.spec.lattice).A
        A = A.dense() if isinstance(A, Bands) else A
        σ = self.velocity_scale(x)
        return A * σ * σ[:, None]

    def velocity_scale(self, x) -> Float[Array, " dof"]:
        """Spread of each velocity, which is the unit of its coordinate too."""
        return jnp.broadcast_to(jnp.array(self.scales.v, x.dtype), x.shape[-1:])


def half_square(v, scales) -> Float[Array, ""]:
    """½‖v‖² in units of the spread of v, of a whole system or of the middle site."""
    own = v if v.size == len(scales) else v[1:2]
    return 0.5 * ((own / jnp.array(scales, v.dtype)) ** 2).sum()
