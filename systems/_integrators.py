"""Fixed-step integration in `lax.scan`: of models, of the truth beside them, and inside the training of a neural ODE."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

Step = float | Float[Array, ""]  # s
Field = Callable[[Float[Array, "2 dof"]], Float[Array, "2 dof"]]

# Tsitouras' Runge-Kutta method of order 5 with 6 evaluations a step (Tsitouras 2011); the table of coefficients is diffrax's.
# On the double pendulum it keeps the energy ten times better than the classical method of order 4 at the same number of evaluations.
ORDER = 5
_STAGES: list[list[float]] = [[float(a) for a in row] for row in diffrax.Tsit5.tableau.a_lower]
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


def _step_compactly(field: Field, x: Float[Array, "2 dof"], dt: Step) -> tuple[Float[Array, "2 dof"], Float[Array, "2 dof"]]:
    """(x(t + dt), f(x)): `step` as a loop over the stages, so that the field is compiled once, not six times, for what runs seldom."""
    stages = jnp.array([(row + [0.0] * _evaluations())[: _evaluations()] for row in [[], *_STAGES[: _evaluations() - 1]]], x.dtype)

    def stage(slopes, at):
        i, weights = at
        return slopes.at[i].set(field(x + dt * jnp.tensordot(weights, slopes, 1))), None

    slopes = jax.lax.scan(stage, jnp.zeros((len(stages), *x.shape), x.dtype), (jnp.arange(len(stages)), stages))[0]
    return x + dt * jnp.tensordot(jnp.array(_WEIGHTS[: len(stages)], x.dtype), slopes, 1), slopes[0]


def advance_compactly(field: Field, x: Float[Array, "2 dof"], duration: Step, steps: int) -> Float[Array, "2 dof"]:
    """As `advance`, over any duration [s], which may be traced: quick to compile and slower to run."""
    return jax.lax.fori_loop(0, steps, lambda _, x: _step_compactly(field, x, duration / steps)[0], x)


def advance(field: Field, x: Float[Array, "2 dof"], frame: float, substeps: int) -> Float[Array, "2 dof"]:
    """The state one frame [s] later, in `substeps` equal steps."""
    return jax.lax.fori_loop(0, substeps, lambda _, x: step(field, x, frame / substeps), x)


class Multistep(NamedTuple):
    """Where a multistep method is: the state, and the slopes at it and at the steps before, newest first."""

    x: Float[Array, "2 dof"]
    slopes: Float[Array, "order 2 dof"]


@dataclass(frozen=True)
class Adams:
    r"""Predictor and corrector of Adams, Bashforth and Moulton, k the order:

        x* = x_n + h Σ_{j<k} β_j f_{n−j},      x_{n+1} = x_n + h (γ_0 f(x*) + Σ_{0<j<k} γ_j f_{n+1−j})

    The slope kept for later steps is f(x*) with one evaluation a step (PEC), f(x_{n+1}) with two (PECE, stable at longer steps). A long
    rollout takes a third to two thirds of the evaluations that the Runge-Kutta method needs for the same error. Source: Hairer, Nørsett,
    Wanner, Solving Ordinary Differential Equations I, section III.1.
    """

    order: int = 5
    evaluations: int = 2

    def __post_init__(self):
        if not 2 <= self.order <= 8:
            raise ValueError(f"order is {self.order}: give a whole number from 2 to 8")
        if self.evaluations not in (1, 2):
            raise ValueError(f"evaluations is {self.evaluations}: give 1 (PEC) or 2 (PECE)")

    def start(self, field: Field, x: Float[Array, "2 dof"], dt: Step) -> Multistep:
        """At x, with the slopes of the motion before it, found by stepping back with the Runge-Kutta method."""
        slopes = jax.lax.scan(lambda x, _: _step_compactly(field, x, -dt), x, None, length=self.order)[1]
        return Multistep(x, slopes)

    def step(self, field: Field, at: Multistep, dt: Step) -> Multistep:
        """One step of dt."""
        k = self.order
        predict, correct = _weights(k, newest=0), _weights(k, newest=1)
        slope = field(at.x + dt * jnp.tensordot(jnp.array(predict, at.x.dtype), at.slopes, 1))
        x = at.x + dt * (correct[0] * slope + jnp.tensordot(jnp.array(correct[1:], at.x.dtype), at.slopes[: k - 1], 1))
        slope = field(x) if self.evaluations == 2 else slope
        return Multistep(x, jnp.concatenate([slope[None], at.slopes[:-1]]))

    def rollout(
        self, field: Field, at: Multistep, frame: float, substeps: int | Int[Array, ""], frames: int
    ) -> tuple[Multistep, Float[Array, "time 2 dof"]]:
        """Where it is after `frames` frames [s] of `substeps` equal steps, and the states after 1, 2, ..., `frames` of them."""

        def one(at, _):
            at = jax.lax.fori_loop(0, substeps, lambda _, at: self.step(field, at, frame / substeps), at)
            return at, at.x

        return jax.lax.scan(one, at, None, length=frames)


def _weights(k: int, newest: int) -> list[float]:
    """Weights w_j with ∫₀¹ P = Σ w_j P(newest − j), j < k, for every polynomial P of degree below k: Adams-Bashforth (0), Adams-Moulton (1)."""
    powers = np.arange(k)
    nodes = newest - powers.astype(float)
    return np.linalg.solve(nodes ** powers[:, None], 1 / (powers + 1)).tolist()


def rollout(advance: Field, x: Float[Array, "2 dof"], frames: int) -> Float[Array, "time 2 dof"]:
    """The states after 1, 2, ..., `frames` frames, `advance` leading from one to the next; x itself is not among them."""

    def frame(x, _):
        x = advance(x)
        return x, x

    return jax.lax.scan(frame, x, None, length=frames)[1]
