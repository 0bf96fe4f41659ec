"""Data sets: true trajectories in double precision, split by trajectory, drawn once for all models."""

from dataclasses import dataclass

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from bench.presets import Preset
from systems import _truth
from systems._system import System

TOGETHER = 50  # trajectories integrated at once: they wait for the slowest
ENERGY_TOLERANCE = 1e-8  # of the energy scale, on every trajectory
FED = 1e-12  # of the largest power, up to which a positive one of a force that never feeds counts as rounding
AGREEMENT = 0.01  # of the spread of velocities, to which two truth solvers must agree for a trajectory to be called known
SHARES = (0.8, 0.1)  # for training and validation; the rest is for test
TRAJECTORIES, FRESH = "trajectories", "fresh"  # sampling; fresh: training states are drawn anew every step, and the data set serves all else
FEWEST = 20  # trajectories, so that no split is empty
DATA_FIELDS = ("sampling", "data_seed", "data_share", "horizon_share", "segment")  # of a preset, that a data set depends on


class DataError(ValueError):
    """A data set that cannot be believed; the message says what to do."""


@dataclass(frozen=True)
class Split:
    """Trajectories of one purpose, float64, in the (q, v) chart."""

    x: Float[np.ndarray, "trajectory time 2 dof"]
    rate: Float[np.ndarray, "trajectory time 2 dof"]
    c: Float[np.ndarray, "trajectory context"]

    def states(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(x, rate, c) of all frames of all trajectories, one after the other."""
        n, time = self.x.shape[:2]
        return self.x.reshape(n * time, *self.x.shape[2:]), self.rate.reshape(n * time, *self.rate.shape[2:]), np.repeat(self.c, time, axis=0)

    def starts(self, frames: int = 1) -> "Split":
        """The first frames alone: of segments that start at independent states the first follows the law of these states, and no other."""
        return Split(self.x[:, :frames], self.rate[:, :frames], self.c)


@dataclass(frozen=True)
class Evaluation:
    """Long trajectories from the evaluation's starts, float64, in the (q, v) chart, the starts being their first frame."""

    x: Float[np.ndarray, "start time 2 dof"]
    c: Float[np.ndarray, "start context"]
    reliable: Float[np.ndarray, " start"]  # s, up to which two truth solvers agree


@dataclass(frozen=True)
class DataSet:
    """All that models of one system are trained on and judged by."""

    training: Split
    validation: Split
    test: Split
    evaluation: Evaluation


def generate(system: System, preset: Preset) -> DataSet:
    """Draws and integrates all trajectories. Raises `DataError` if one breaks the balance of its energy."""
    recording = system.recording
    # a tag keeps these streams apart from those of the models' seeds
    training_key, evaluation_key = jax.random.split(jax.random.fold_in(jax.random.key(preset.data_seed), 0xDA7A))
    count = max(FEWEST, round(preset.data_share * recording.trajectories))
    frames = round(recording.duration / recording.frame)
    if preset.sampling != TRAJECTORIES:
        count, frames = count * ((frames + 1) // preset.segment), preset.segment - 1
    sample = system.sample_initial if preset.sampling == TRAJECTORIES else system.sample_state
    x, c = jax.vmap(sample)(jax.random.split(training_key, count))
    x = integrate(system, x, c, frames, recording.frame)
    rate = jax.jit(jax.vmap(jax.vmap(system.field, (0, None))))(x, c)
    ends = [round(SHARES[0] * count), round(sum(SHARES) * count)]
    training, validation, test = (Split(*parts) for parts in zip(*(np.split(np.asarray(a), ends) for a in (x, rate, c)), strict=True))
    if preset.sampling != TRAJECTORIES:
        test = test.starts()

    starts = jnp.arange(recording.starts)
    x, c = jax.vmap(system.sample_evaluation)(jax.random.split(evaluation_key, recording.starts), starts)
    frames = max(1, round(preset.horizon_share * recording.horizon / recording.evaluation_frame))
    x_true = integrate(system, x, c, frames, recording.evaluation_frame)
    other = integrate(system, x, c, frames, recording.evaluation_frame, solver=diffrax.Tsit5())
    apart = jnp.abs(other - x_true)[:, 1:, 1].max(axis=-1) > AGREEMENT * x_true[:, :, 1].std()
    agree = np.where(apart.any(axis=1), apart.argmax(axis=1), frames)
    evaluation = Evaluation(np.asarray(x_true), np.asarray(c), agree * recording.evaluation_frame)
    return DataSet(training, validation, test, evaluation)


def integrate(system: System, x, c, frames: int, frame: float, solver=None) -> Float[Array, "n time 2 dof"]:
    """True trajectories of frames 0 ... `frames`.

    Raises `DataError` unless the energy of each is balanced to 1e-8 of the energy scale, |H(t) − H(0) − W(t)|, W the work of the system's force;
    without one, which leaves the states their bits, unless it is kept. Also if a system that declares itself dissipative is fed, F·v > 0.
    """
    times = jnp.arange(frames + 1) * frame
    follow = _truth.trajectory_and_work if system.forced else _truth.trajectory
    solve = jax.jit(jax.vmap(lambda x, c: follow(system, x, c, times, solver)))
    n = len(x)
    order = np.arange(-(-n // TOGETHER) * TOGETHER) % n if n > TOGETHER else np.arange(n)  # whole batches: one compilation
    batches = [order[i : i + TOGETHER] for i in range(0, len(order), TOGETHER)]
    solved = jax.tree.map(lambda *parts: jnp.concatenate(parts)[:n], *(solve(x[i], c[i]) for i in batches))
    trajectories, work = solved if system.forced else (solved, None)
    energy = jax.jit(jax.vmap(jax.vmap(system.energy, (0, None))))(trajectories, c)
    change = energy - energy[:, :1]
    off = jnp.abs(change if work is None else change - work).max(axis=1) / system.energy_scale(x, c)
    if not (off <= ENERGY_TOLERANCE).all():
        worst = int(jnp.argmax(jnp.where(jnp.isnan(off), jnp.inf, off)))
        balance = "H(t) = H(0)" if work is None else "H(t) = H(0) + W(t), W the work of its force,"
        raise DataError(
            f"true trajectory {worst} of {type(system).__name__} breaks its balance {balance} by {off[worst]:.1e} of the energy scale, more than "
            f"{ENERGY_TOLERANCE:.0e}: sample milder starts or shorten the trajectories ({_state(x[worst], c[worst])})"
        )
    if system.dissipative:
        _require_no_feeding(system, trajectories, c)
    return trajectories


def _require_no_feeding(system: System, x: Float[Array, "n time 2 dof"], c) -> None:
    """Raises `DataError` where the force feeds a system that declares itself dissipative."""
    power = jax.jit(jax.vmap(jax.vmap(system.power, (0, None))))(x, c)
    if (power > FED * jnp.abs(power).max()).any():
        i, j = np.unravel_index(int(jnp.argmax(power)), power.shape)
        raise DataError(
            f"{type(system).__name__} declares itself dissipative, and its force feeds it: F·v = {power[i, j]:.1e} > 0 at {_state(x[i, j], c[i])}; "
            "mend the sign of `force`, or don't declare it"
        )


def _state(x, c) -> str:
    return f"state [q, v] = {np.asarray(x).tolist()}, c = {np.asarray(c).tolist()}"
