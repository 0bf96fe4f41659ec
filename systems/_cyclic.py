"""Symmetric cyclic pentadiagonal matrices: the mass matrix of a ring whose density sees a site and its two neighbours."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Bands(NamedTuple):
    """M[i, i] = d[i], M[i, i+1] = e[i], M[i, i+2] = f[i], all indices modulo N. Below five sites bands overlap and add up."""

    d: Float[Array, "*N"]
    e: Float[Array, "*N"]
    f: Float[Array, "*N"]

    def __matmul__(self, x: Float[Array, " N"]) -> Float[Array, " N"]:
        """M x in O(N)."""
        d, e, f = self
        ahead = e * jnp.roll(x, -1) + f * jnp.roll(x, -2)
        behind = jnp.roll(e * x, 1) + jnp.roll(f * x, 2)
        return d * x + ahead + behind

    def dense(self) -> Float[Array, "N N"]:
        """The matrix itself."""
        return jax.vmap(lambda x: self @ x, out_axes=1)(jnp.eye(self.d.size, dtype=self.d.dtype))


def bands_from_windows(local: Float[Array, "N 3 3"]) -> Bands:
    """Sum of 3x3 matrices, the i-th acting on sites (i−1, i, i+1)."""
    here, left, right = local, jnp.roll(local, -1, axis=0), jnp.roll(local, 1, axis=0)
    return Bands(
        d=here[:, 1, 1] + left[:, 0, 0] + right[:, 2, 2],
        e=here[:, 1, 2] + left[:, 0, 1],
        f=left[:, 0, 2],
    )


def solve_bands(M: Bands, b: Float[Array, " N"]) -> Float[Array, " N"]:
    """M⁻¹ b in O(N), exact for every M that is positive definite; differentiable, its derivative being another solve.

    Below six sites the matrix is small and made dense.
    """
    if b.size < 6:
        return jnp.linalg.solve(M.dense(), b)
    return jax.lax.custom_linear_solve(lambda x: M @ x, b, lambda _, rhs: _bordered_solve(M, rhs), symmetric=True)


def _bordered_solve(M: Bands, b: Float[Array, " N"]) -> Float[Array, " N"]:
    """Cuts the ring: the last two sites are a border around an open chain,

    [ B  U ] [x]   [b₁]
    [ Uᵀ D ] [y] = [b₂],    so  (D − Uᵀ B⁻¹ U) y = b₂ − Uᵀ B⁻¹ b₁,   x = B⁻¹ b₁ − B⁻¹ U y.
    """
    d, e, f = M
    n = d.size - 2
    U = jnp.zeros((n, 2), d.dtype)
    U = U.at[0, 0].set(f[n]).at[0, 1].set(e[n + 1]).at[1, 1].set(f[n + 1])  # across the cut
    U = U.at[n - 2, 0].add(f[n - 2]).at[n - 1, 0].add(e[n - 1]).at[n - 1, 1].add(f[n - 1])  # the chain's own end
    D = jnp.array([[d[n], e[n]], [e[n], d[n + 1]]])
    solved = _chain_solve(d[:n], e[:n], f[:n], jnp.concatenate([b[:n, None], U], axis=1))
    particular, response = solved[:, 0], solved[:, 1:]
    S, r = D - U.T @ response, b[n:] - U.T @ particular
    y = jnp.stack([S[1, 1] * r[0] - S[0, 1] * r[1], S[0, 0] * r[1] - S[1, 0] * r[0]])
    y = y / (S[0, 0] * S[1, 1] - S[0, 1] * S[1, 0])
    return jnp.concatenate([particular - response @ y, y])


def _chain_solve(d, e, f, rhs: Float[Array, "n k"]) -> Float[Array, "n k"]:
    """B⁻¹ rhs for an open pentadiagonal chain by B = L Δ Lᵀ, L unit lower triangular with sub-diagonals l and m.

    δ_i = d_i − l_i² δ_{i−1} − m_i² δ_{i−2},   l_i δ_{i−1} = e_{i−1} − f_{i−2} l_{i−1},   m_i δ_{i−2} = f_{i−2}.
    """

    def eliminate(before, row):
        δ1, δ2, l1, y1, y2 = before  # of the rows i−1 (1) and i−2 (2)
        d, e, f, b = row
        le = e - f * l1
        l, m = le / δ1, f / δ2
        δ, y = d - l * le - m * f, b - l * y1 - m * y2
        return (δ, δ1, l, y, y1), (l, m, y / δ)

    def substitute(behind, row):
        x1, x2 = behind  # of the rows i+1 and i+2
        l, m, y = row
        x = y - l * x1 - m * x2
        return (x, x1), x

    one, none = jnp.ones((), d.dtype), jnp.zeros_like(rhs[0])
    shifted = jnp.roll(e, 1).at[0].set(0), jnp.roll(f, 2).at[:2].set(0)
    _, (l, m, y) = jax.lax.scan(eliminate, (one, one, 0 * one, none, none), (d, *shifted, rhs))
    ahead = jnp.roll(l, -1).at[-1].set(0), jnp.roll(m, -2).at[-2:].set(0)
    _, x = jax.lax.scan(substitute, (none, none), (*ahead, y), reverse=True)
    return x
