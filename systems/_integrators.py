"""Fixed-step integration in `lax.scan`: of models, of the truth beside them, and inside the training of a neural ODE."""

from collections.abc import Callable

import diffrax
import jax
from jaxtyping import Array, Float

Field = Callable[[Float[Array, "2 dof"]], Float[Array, "2 dof"]]

# Tsitouras' Runge-Kutta method of order 5 with 6 evaluations a step (Tsitouras 2011); the table of coefficients is diffrax's.
# On the double pendulum it keeps the energy ten times better than the classical method of order 4 at the same number of evaluations.
ORDER = 5
_STAGES = [[float(a) for a in row] for row in diffrax.Tsit5.tableau.a_lower]
_WEIGHTS = [float(b) for b in diffrax.Tsit5.tableau.b_sol]


def step(field: Field, x: Float[Array, "2 dof"], dt: float) -> Float[Array, "2 dof"]:
    """x(t + dt) from x(t): k_i = f(x + dt Σ_j a_ij k_j),  x + dt Σ_i b_i k_i."""

    def combine(weights, slopes):
        return x + dt * sum(w * k for w, k in zip(weights, slopes, strict=False) if w != 0)

    slopes = [field(x)]
    for row in _STAGES[: _evaluations() - 1]:
        slopes.append(field(combine(row, slopes)))
    return combine(_WEIGHTS, slopes)


def _evaluations() -> int:
    """Stages that the solution uses: the last one of the table serves an error estimate only."""
    return max(i for i, b in enumerate(_WEIGHTS) if b != 0) + 1


def advance(field: Field, x: Float[Array, "2 dof"], frame: float, substeps: int) -> Float[Array, "2 dof"]:
    """The state one frame [s] later, in `substeps` equal steps."""
    return jax.lax.fori_loop(0, substeps, lambda _, x: step(field, x, frame / substeps), x)


def rollout(advance: Field, x: Float[Array, "2 dof"], frames: int) -> Float[Array, "time 2 dof"]:
    """The states after 1, 2, ..., `frames` frames, `advance` leading from one to the next; x itself is not among them."""

    def frame(x, _):
        x = advance(x)
        return x, x

    return jax.lax.scan(frame, x, None, length=frames)[1]
