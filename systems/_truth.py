"""Ground truth: the equations of motion integrated to (almost) the last bit of double precision."""

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
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, x, c: system.field(x, c)),
        solver or diffrax.Dopri8(),
        t0=times[0],
        t1=times[-1],
        dt0=None,
        y0=x,
        args=c,
        saveat=diffrax.SaveAt(ts=times),
        # steps end at the asked times: interpolation between steps is good to 1e-10 only
        stepsize_controller=diffrax.ClipStepSizeController(diffrax.PIDController(rtol=TOLERANCE, atol=TOLERANCE), step_ts=times),
        max_steps=MAX_STEPS,
        throw=False,
    )
    return jnp.asarray(solution.ys)
