r"""SOAP: Adam in the slowly turning eigenbasis of Shampoo's factors (Vyas et al. 2024, arXiv 2409.11321).

Of every leaf, a matrix W [n, m] with gradient G (of any other number of axes: seen as one, the first axis by all others):

    M ← β₁ M + (1 − β₁) G,      L ← β_s L + (1 − β_s) G Gᵀ,      R ← β_s R + (1 − β_s) Gᵀ G
    every tenth step:  Q_L ← QR(L Q_L),  Q_R ← QR(R Q_R)         a power iteration towards the eigenvectors of L [n, n] and R [m, m], from Q = 1 on
    M' = Q_Lᵀ M Q_R,   G' = Q_Lᵀ G Q_R,   V ← β₂ V + (1 − β₂) G'²
    W ← W − η Q_L [ M'/(1 − β₁ᵗ) / (√(V/(1 − β₂ᵗ)) + ε) ] Q_Rᵀ

Neither optax 0.2.8 nor a package that can be installed has it. Leaves of one shape are stacked and updated together, which compiles sooner.
Unlike in the authors' code columns are not sorted before a QR: a power iteration brings them into the order of their eigenvalues by itself.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

MEAN, SQUARE, FACTOR = 0.95, 0.99, 0.95  # β₁, β₂, β_s
EVERY = 10  # steps between two turns of the bases
TINY = 1e-8  # ε


class State(NamedTuple):
    """Of the leaves of one shape, stacked."""

    M: Float[Array, "k n m"]
    V: Float[Array, "k n m"]
    L: Float[Array, "k n n"]
    R: Float[Array, "k m m"]
    Q_L: Float[Array, "k n n"]
    Q_R: Float[Array, "k m m"]


def scale_by_soap() -> optax.GradientTransformationExtraArgs:
    """SOAP without its learning rate. `update` wants the loop's own `step`, from 0: a count in the state would be one of several seeds in one
    program, and under a condition on it the bases of all of them would turn at every step."""

    def init(params) -> list[State]:
        return [_start(W) for W in _stacks(params)]

    def update(updates, state, params=None, *, step, **_):
        stacks = _stacks(updates)
        states = [_remember(G, of_shape) for G, of_shape in zip(stacks, state, strict=True)]
        states = jax.lax.cond((step % EVERY == 0) & (step > 0), lambda: [_turn(state) for state in states], lambda: states)
        moves, states = zip(*(_move(G, state, step + 1.0) for G, state in zip(stacks, states, strict=True)), strict=True)
        left = {move.shape[1:]: iter(move) for move in moves}
        return jax.tree.map(lambda leaf: next(left[_matrix(leaf).shape]).reshape(leaf.shape), updates), list(states)

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore[reportArgumentType]  (step must be given)


def _matrix(leaf) -> Float[Array, "n m"]:
    return leaf.reshape(leaf.shape[0] if leaf.ndim else 1, -1)


def _stacks(tree) -> list[Float[Array, "k n m"]]:
    """The leaves of a tree as matrices, those of one shape stacked."""
    by_shape: dict[tuple[int, ...], list] = {}
    for matrix in map(_matrix, jax.tree.leaves(tree)):
        by_shape.setdefault(matrix.shape, []).append(matrix)
    return [jnp.stack(matrices) for matrices in by_shape.values()]


def _start(W) -> State:
    k, n, m = W.shape
    (L, Q_L), (R, Q_R) = ((jnp.zeros((k, size, size), W.dtype), jnp.tile(jnp.eye(size, dtype=W.dtype), (k, 1, 1))) for size in (n, m))
    return State(jnp.zeros_like(W), jnp.zeros_like(W), L, R, Q_L, Q_R)


def _remember(G, state: State) -> State:
    transposed = G.mT
    L, R = (FACTOR * F + (1 - FACTOR) * product for F, product in ((state.L, G @ transposed), (state.R, transposed @ G)))
    return state._replace(M=MEAN * state.M + (1 - MEAN) * G, L=L, R=R)


def _turn(state: State) -> State:
    return state._replace(Q_L=jnp.linalg.qr(state.L @ state.Q_L)[0], Q_R=jnp.linalg.qr(state.R @ state.Q_R)[0])


def _move(G, state: State, t) -> tuple[Float[Array, "k n m"], State]:
    """The change of a leaf at step t, from 1, before its learning rate; and the state with V."""
    M, G = (state.Q_L.mT @ X @ state.Q_R for X in (state.M, G))
    V = SQUARE * state.V + (1 - SQUARE) * G**2
    move = M / (1 - MEAN**t) / (jnp.sqrt(V / (1 - SQUARE**t)) + TINY)
    return state.Q_L @ move @ state.Q_R.mT, state._replace(V=V)
