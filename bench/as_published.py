"""The Lagrangian network's equation of motion as published, to compare with: what `systems/_mechanics.py` computes with fewer passes."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def acceleration(lagrangian, q, v, c) -> Float[Array, " dof"]:
    """v̇ = (∂²L/∂v²)⁺ (∂L/∂q − (∂²L/∂q∂v) v): full Hessian, explicit mixed Jacobian, pseudo-inverse. Source: Cranmer et al. 2020, eq. 6."""
    mass_matrix = jax.hessian(lagrangian, 1)(q, v, c)
    mixed = jax.jacobian(jax.jacobian(lagrangian, 1), 0)(q, v, c)
    return jnp.linalg.pinv(mass_matrix) @ (jax.grad(lagrangian)(q, v, c) - mixed @ v)
