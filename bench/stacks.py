"""A pytree as a few stacks of matrices, so that an optimiser handles many leaves in one operation: its loop then compiles in half the time.

A leaf is seen as a matrix, its first axis by all others, turned so that it is no longer than wide. Matrices of one shape share a stack. So do all
thin ones (first and last layers), filled up with rows and columns of zeros, which stay apart in products and in eigenbases.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

THIN = 4  # a matrix is thin that is at least so many times as wide as it is long


def stack(tree) -> list[Float[Array, "k n m"]]:
    """One stack for each shape that there is."""
    matrices = [_matrix(leaf) for leaf in jax.tree.leaves(tree)]

    def filled(W, n: int, m: int):
        return jnp.pad(W, [(0, n - W.shape[0]), (0, m - W.shape[1])])

    return [jnp.stack([filled(matrices[i], *shape) for i in members]) for shape, members in _shapes(tree).items()]


def unstack(stacks: Sequence, tree):
    """What was stacked, in the form of `tree`."""
    leaves, treedef = jax.tree.flatten(tree)
    for matrices, members in zip(stacks, _shapes(tree).values(), strict=True):
        for W, i in zip(matrices, members, strict=True):
            length, width = _sides(leaves[i])
            W = W[:length, :width] if length <= width else W[:width, :length].T
            leaves[i] = W.reshape(leaves[i].shape)
    return treedef.unflatten(leaves)


def orthogonal(stacks: Sequence[Array]) -> list[Array]:
    """Q [k, n, n] of the QR decompositions of stacks of matrices [k, n, n], one stack after the other: each waits for an entry of the last.

    jaxlib shares the matrices of a stack out to a pool of threads, and waits for them on one thread of that pool: on two cores, two stacks at once
    would wait for each other for ever.
    """
    found, last = [], 0.0
    for matrices in stacks:
        found.append(jnp.linalg.qr(matrices + 0 * last)[0])
        last = found[-1].ravel()[0]
    return found


def _sides(leaf) -> tuple[int, int]:
    """The first axis, and all others as one."""
    length = leaf.shape[0] if leaf.ndim else 1
    return length, leaf.size // length


def _matrix(leaf):
    W = leaf.reshape(_sides(leaf))
    return W if W.shape[0] <= W.shape[1] else W.T


def _shapes(tree) -> dict[tuple[int, int], list[int]]:
    """Of each stack the shape of its matrices, and the numbers of the leaves that they are."""
    shapes = [(min(sides), max(sides)) for sides in map(_sides, jax.tree.leaves(tree))]
    thin = [(n, m) for n, m in shapes if THIN * n <= m]
    filled = [(max(n for n, _ in thin), max(m for _, m in thin)) if shape in thin else shape for shape in shapes]
    return {shape: [i for i, other in enumerate(filled) if other == shape] for shape in dict.fromkeys(filled)}
