"""Ground truth: the equations of motion integrated to (almost) the last bit of double precision."""

from collections.abc import Callable
from typing import Any

import diffrax
import jax.numpy as jnp
from jaxtyping import Array, Float

from systems._system import System

TOLERANCE = 1e-12  # at 1e-10 the energy of a double pendulum drifts past 1e-8 once in 40 trajectories of 100 s
MAX_STEPS = 1_000_000


def trajectory(
    system: System,
    x: Float[Array, "2 dof"],
    c: Float[Array, " context"],
    times: Float[Array, " time"],
    solver: diffrax.AbstractSolver | None = None,
) -> Float[Array, "time 2 dof"]:
    """States of the true motion from x at the given times [s], increasing from 0, in the (q, v) chart.

    Dormand-Prince 8(7) unless another `solver` is asked for, adaptive, relative and absolute tolerance 1e-12. A step that fails leaves
    infinities, never a wrong number.
    """
    return jnp.asarray(_solved(system.field, x, c, times, solver))


def trajectory_and_work(
    system: System,
    x: Float[Array, "2 dof"],
    c: Float[Array, " context"],
    times: Float[Array, " time"],
    solver: diffrax.AbstractSolver | None = None,
) -> tuple[Float[Array, "time 2 dof"], Float[Array, " time"]]:
    """The same of a system with a force, and the work that it has done since the start [J]: Ẇ = F·v, W(0) = 0, so that H(t) − H(0) = W(t).

    W is a component of what is integrated, and counts in the size of a step: states differ in the last bits from `trajectory`'s.
    """
    start = x, jnp.zeros((), x.dtype)
    return _solved(lambda state, c: (system.field(state[0], c), system.power(state[0], c)), start, c, times, solver)


def _solved(field: Callable, start, c, times, solver: diffrax.AbstractSolver | None) -> Any:
    """Solution of ẏ = field(y, c) from a start that may have parts, at the times."""
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, state, c: field(state, c)),
        solver or diffrax.Dopri8(),
        t0=times[0],
        t1=times[-1],
        dt0=None,
        y0=start,
        args=c,
        saveat=diffrax.SaveAt(ts=times),
        # steps end at the asked times: interpolation between steps is good to 1e-10 only
        stepsize_controller=diffrax.ClipStepSizeController(diffrax.PIDController(rtol=TOLERANCE, atol=TOLERANCE), step_ts=times),
        max_steps=MAX_STEPS,
        throw=False,
    )
    return solution.ys
