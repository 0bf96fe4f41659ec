r"""SOAP: Adam in the slowly turning eigenbasis of Shampoo's factors (Vyas et al. 2024, arXiv 2409.11321).

Of every leaf, seen as a matrix W [n, m] with gradient G (bench/stacks.py):

    M ← β₁ M + (1 − β₁) G,      L ← β_s L + (1 − β_s) G Gᵀ,      R ← β_s R + (1 − β_s) Gᵀ G
    every fifth step:  Q_L ← QR(L Q_L),  Q_R ← QR(R Q_R)         a power iteration towards the eigenvectors of L [n, n] and R [m, m], from Q = 1 on;
                       columns are sorted before by falling diag(Qᵀ L Q), diag(Qᵀ R Q), and rows and columns of V likewise
    M' = Q_Lᵀ M Q_R,   G' = Q_Lᵀ G Q_R,   V ← β₂ V + (1 − β₂) G'²
    W ← W − η Q_L [ M'/(1 − β₁ᵗ) / (√(V/(1 − β₂ᵗ)) + ε) ] Q_Rᵀ

No entry of [ ] is taken beyond ±1.7, which is as far as Adam comes in a basis that stands still: a basis that has turned into a direction whose V is
mere rounding would make a step that undoes a training. Unsorted, the iteration is slow where eigenvalues are near. Neither optax 0.2.8 nor a kept
package has SOAP.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from bench import stacks

MEAN, SQUARE, FACTOR, TINY, EVERY = 0.95, 0.99, 0.95, 1e-8, 5  # β₁, β₂, β_s, ε, steps between two turns of the bases
FARTHEST = (1 - MEAN) / ((1 - SQUARE) * (1 - MEAN**2 / SQUARE)) ** 0.5  # |Adam's step| for any gradients, by Cauchy and Schwarz: 1.7


class State(NamedTuple):  # of the matrices of one stack
    M: Float[Array, "k n m"]
    V: Float[Array, "k n m"]
    L: Float[Array, "k n n"]
    R: Float[Array, "k m m"]
    Q_L: Float[Array, "k n n"]
    Q_R: Float[Array, "k m m"]


def scale_by_soap() -> optax.GradientTransformationExtraArgs:
    """SOAP without its learning rate. `update` wants the loop's `step`, from 0: seeds in one program share it, which no count in the state is."""

    def init(params) -> list[State]:
        zeros = [jnp.zeros_like(W) for W in stacks.stack(params)]
        factors = [[jnp.zeros((len(Z), size, size), Z.dtype) for size in Z.shape[1:]] for Z in zeros]
        return [State(Z, Z, L, R, *(F + jnp.eye(F.shape[-1], dtype=F.dtype) for F in (L, R))) for Z, (L, R) in zip(zeros, factors, strict=True)]

    def update(updates, state, params=None, *, step, **_):
        gradients = stacks.stack(updates)
        states = [_remember(G, of_shape) for G, of_shape in zip(gradients, state, strict=True)]
        states = jax.lax.cond((step % EVERY == 0) & (step > 0), lambda: _turn(states), lambda: states)
        moves, after = zip(*(_move(G, of_shape, step + 1.0) for G, of_shape in zip(gradients, states, strict=True)), strict=True)
        return stacks.unstack(moves, updates), list(after)

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore[reportArgumentType]  (step must be given)


def _remember(G, s: State) -> State:
    return s._replace(M=MEAN * s.M + (1 - MEAN) * G, L=FACTOR * s.L + (1 - FACTOR) * G @ G.mT, R=FACTOR * s.R + (1 - FACTOR) * G.mT @ G)


def _turn(states: list[State]) -> list[State]:
    ordered, P = zip(*(_sorted(F, Q) for s in states for F, Q in ((s.L, s.Q_L), (s.R, s.Q_R))), strict=True)
    Q = stacks.orthogonal(ordered)
    return [s._replace(V=P[2 * i].mT @ s.V @ P[2 * i + 1], Q_L=Q[2 * i], Q_R=Q[2 * i + 1]) for i, s in enumerate(states)]


def _sorted(F, Q) -> tuple[Float[Array, "k n n"], Float[Array, "k n n"]]:
    """F Q with its columns in falling order of diag(Qᵀ F Q), and the permutation matrix P that brings this order (a sort compiles more slowly)."""
    turned = F @ Q
    λ, i = (Q * turned).sum(axis=1), jnp.arange(Q.shape[-1])
    above = (λ[:, None] > λ[:, :, None]) | ((λ[:, None] == λ[:, :, None]) & (i < i[:, None]))  # [k, column, other]: the other comes first
    P = (above.sum(axis=2)[:, :, None] == i).astype(Q.dtype)
    return turned @ P, P


def _move(G, s: State, t) -> tuple[Float[Array, "k n m"], State]:
    """The change of a leaf at step t, from 1, before its learning rate; and the state with V."""
    M, G = (s.Q_L.mT @ X @ s.Q_R for X in (s.M, G))
    V = SQUARE * s.V + (1 - SQUARE) * G**2
    adam = M / (1 - MEAN**t) / (jnp.sqrt(V / (1 - SQUARE**t)) + TINY)
    return s.Q_L @ jnp.clip(adam, -FARTHEST, FARTHEST) @ s.Q_R.mT, s._replace(V=V)
