r"""Lagrangian mechanics by automatic differentiation, written once for true and for learnt Lagrangians.

A Lagrangian is a function L(q, v, c) -> scalar of one state: q, v [dof] and context c. Written out, the Euler-Lagrange equation
d/dt ∂L/∂v = ∂L/∂q + F is linear in the acceleration a:

    A a = ∂L/∂q + F − C v,      A = ∂²L/∂v² (mass matrix),  C = ∂²L/∂v∂q.

On a ring, L = Σ_i ℓ(q_{i−1}, q_i, q_{i+1}, v_{i−1}, v_i, v_{i+1}, c) and the caller gives the density ℓ of one window of three
sites: every function here that takes `lattice=True` sums the windows, and A becomes cyclic pentadiagonal.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.core import eval_jaxpr
from jax.scipy.linalg import cho_solve
from jaxtyping import Array, ArrayLike, Float

from systems._cyclic import Bands, bands_from_windows, solve_bands

Lagrangian = Callable[..., Float[Array, ""]]


def windows(field: Float[Array, " N"]) -> Float[Array, "N 3"]:
    """Each site of a ring with its two neighbours: row i is (field[i−1], field[i], field[i+1])."""
    return jnp.stack([jnp.roll(field, 1), field, jnp.roll(field, -1)], axis=-1)


def sum_windows(local: Float[Array, "N 3"]) -> Float[Array, " N"]:
    """Transpose of `windows`: what each site gets from the three windows that hold it."""
    return jnp.roll(local[:, 0], -1) + local[:, 1] + jnp.roll(local[:, 2], 1)


def total(function: Lagrangian, lattice: bool) -> Lagrangian:
    """The function of the whole state: itself, or on a ring the sum of a density over the windows of all sites."""
    if not lattice:
        return function
    return lambda q, v, c: jax.vmap(function, (0, 0, None))(windows(q), windows(v), c).sum()


class Expansion(NamedTuple):
    """The pieces of the Euler-Lagrange equation at one state; A is a matrix, or `Bands` on a ring."""

    A: Float[Array, "dof dof"] | Bands  # ∂²L/∂v²
    pull: Float[Array, " dof"]  # ∂L/∂q − C v


def expand_one(lagrangian: Lagrangian, q, v, c) -> tuple[Float[Array, "dof dof"], Float[Array, " dof"]]:
    """A and ∂L/∂q − C v from one gradient and dof products: a product along v_i gives column i of A and row i of C together."""
    (dL_dq, _), product = jax.linearize(lambda v: jax.grad(lagrangian, (0, 1))(q, v, c), v)
    C, A = jax.vmap(product)(jnp.eye(v.size, dtype=v.dtype))
    return A, dL_dq - C @ v


def expand(lagrangian: Lagrangian, q, v, c, lattice: bool = False) -> Expansion:
    """A = ∂²L/∂v² and ∂L/∂q − C v. On a ring the same expansion of every window, summed."""
    if not lattice:
        return Expansion(*expand_one(lagrangian, q, v, c))
    A, pull = jax.vmap(lambda q, v: expand_one(lagrangian, q, v, c))(windows(q), windows(v))
    return Expansion(bands_from_windows(A), sum_windows(pull))


def solve(A, b: Float[Array, " dof"]) -> Float[Array, " dof"]:
    """A⁻¹ b for a mass matrix of `expand`: closed form to three degrees of freedom, O(N) on a ring, else by Cholesky."""
    if isinstance(A, Bands):
        return solve_bands(A, b)
    if b.size == 1:
        return b / A[0, 0]
    if b.size == 2:
        determinant = A[0, 0] * A[1, 1] - A[0, 1] * A[1, 0]
        return jnp.stack([A[1, 1] * b[0] - A[0, 1] * b[1], A[0, 0] * b[1] - A[1, 0] * b[0]]) / determinant
    if b.size == 3:
        x, y, z = A.T
        return jnp.stack([jnp.cross(y, z), jnp.cross(z, x), jnp.cross(x, y)]) @ b / (x @ jnp.cross(y, z))
    return jax.lax.custom_linear_solve(lambda x: A @ x, b, lambda _, rhs: _solve_definite(A, rhs), symmetric=True)


def _solve_definite(A, b):
    """By Cholesky; a learnt mass matrix that is not positive definite by LU. (Under `vmap` a condition is a choice between two things done.)"""
    factor = jnp.linalg.cholesky(A)  # NaN where there is none
    return jax.lax.cond(jnp.isfinite(factor).all(), lambda: cho_solve((factor, True), b), lambda: jnp.linalg.solve(A, b))


def euler_lagrange(lagrangian: Lagrangian, q, v, c, force: ArrayLike = 0.0, lattice: bool = False) -> Float[Array, " dof"]:
    """Acceleration a = A⁻¹ (∂L/∂q + F − C v) under the generalised force F. Source: Lagrange 1788; Cranmer et al. 2020, eq. 6.

    Counted in passes through L (a value is 1, a gradient 2, a product with the Hessian 2 more), a costs 2 + 2·dof, dof that of a window on
    a ring. Differentiated operation by operation it costs twice that once more. From two degrees of freedom on it is therefore differentiated
    as the root of the missing force (`_root`), which costs 12 whatever dof is, and two of them have been taken already.
    """
    A, pull = expand(lagrangian, q, v, c, lattice)
    b = pull + force
    if q.size == 1:
        return solve(A, b)
    # all that R depends on and that can be differentiated by becomes an argument: q, v, c, the force, and the weights that L closes over
    R = jax.make_jaxpr(lambda a: missing_force(lagrangian, q, v, a, c, lattice) - force)(b)
    return _root(R.jaxpr, A, b, R.consts)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _root(R, A, b: Float[Array, " dof"], given: list) -> Float[Array, " dof"]:
    """The root a = A⁻¹ b of R(a, given) = A a − b. Its tangent is ȧ = −A⁻¹ Ṙ, R changing with what is given, at fixed a.

    Those of A and b are left out, since they follow from the same things and Ṙ holds them; so nobody differentiates `expand`, unless a derivative
    is differentiated again. `jax.lax.custom_root` has the same rule, but since jax 0.12 it transposes also what its rule leaves out, on arrays of
    zeros: one gradient then takes the 6 + 6·dof passes of the operations besides the 12.
    """
    return solve(A, b)


@_root.defjvp
def _(R, primals, tangents):
    A, _, given = primals
    a = _root(R, *primals)  # by this rule in turn, where a derivative is differentiated again
    return a, -solve(A, jax.jvp(lambda given: eval_jaxpr(R, given, a)[0], (given,), (tangents[2],))[1])


def missing_force(lagrangian: Lagrangian, q, v, a, c, lattice: bool = False) -> Float[Array, " dof"]:
    """R = d/dt ∂L/∂v − ∂L/∂q = A a + C v − ∂L/∂q of a motion with acceleration a, by one product with the Hessian, along (v, a)."""

    def one(q, v, a):
        (dL_dq, _), (_, changing_momentum) = jax.jvp(lambda q, v: jax.grad(lagrangian, (0, 1))(q, v, c), (q, v), (v, a))
        return changing_momentum - dL_dq

    return sum_windows(jax.vmap(one)(windows(q), windows(v), windows(a))) if lattice else one(q, v, a)


def momentum(lagrangian: Lagrangian, q, v, c, lattice: bool = False) -> Float[Array, " dof"]:
    """p = ∂L/∂v."""
    return jax.grad(total(lagrangian, lattice), 1)(q, v, c)


def legendre(lagrangian: Lagrangian, q, v, c, lattice: bool = False) -> Float[Array, ""]:
    """Energy E = v·∂L/∂v − L."""
    L, along_v = jax.jvp(lambda u: total(lagrangian, lattice)(q, u, c), (v,), (v,))
    return along_v - L


def hamilton(hamiltonian: Lagrangian, q, p, c, lattice: bool = False) -> Float[Array, "2 dof"]:
    """(q̇, ṗ) = (∂H/∂p, −∂H/∂q), both from one gradient."""
    dH_dq, dH_dp = jax.grad(total(hamiltonian, lattice), (0, 1))(q, p, c)
    return jnp.stack([dH_dp, -dH_dq])
