"""Metrics: pure functions of true and predicted trajectories or fields. Double precision, one definition each.

Shapes: trajectories [start, time, 2, dof] in the (q, v) chart, the given first state not among the times.
"""

import numpy as np
from jaxtyping import Float, Int

from systems._system import Spec

FLOOR = 1e-7  # a rollout error below this is called this: the truth itself is no better in single precision
VALID = 0.4  # distance, in units of the spread of the true motion, up to which a prediction counts as valid
RANGE = 10.0  # times the range of the training data, beyond which a rollout counts as diverged


def _mean_ratio(error, reference, axes) -> float:
    """mean ‖error‖ / mean ‖reference‖; +∞ where the error is not finite."""
    size = np.linalg.norm(error, axis=axes).mean()
    return float(size / np.linalg.norm(reference, axis=axes).mean()) if np.isfinite(size) else float("inf")


def field_error(predicted: Float[np.ndarray, "n 2 dof"], true: Float[np.ndarray, "n 2 dof"], lattice: bool = False) -> float:
    """mean ‖f̂ − f‖ / mean ‖f‖ over states, components in units of their spread: 1 is what predicting zero gets."""
    axes = (0, 2) if lattice else 0
    spread = np.std(true, axis=axes, keepdims=True)
    return _mean_ratio((predicted - true) / spread, true / spread, (1, 2))


def acceleration_error(predicted: Float[np.ndarray, "n dof"], true: Float[np.ndarray, "n dof"], lattice: bool = False) -> float:
    """The same for v̇ alone."""
    spread = np.std(true, axis=None if lattice else 0)
    return _mean_ratio((predicted - true) / spread, true / spread, 1)


def acceleration_l1(predicted: Float[np.ndarray, "n dof"], true: Float[np.ndarray, "n dof"]) -> float:
    """mean Σ_i |v̇̂_i − v̇_i| over states, in the system's own units: the loss that Cranmer et al. 2020 report. +∞ where it is not finite."""
    error = float(np.abs(predicted - true).sum(axis=1).mean())
    return error if np.isfinite(error) else float("inf")


def force_error(predicted: Float[np.ndarray, "n dof"], true: Float[np.ndarray, "n dof"]) -> float:
    """mean ‖M v̇̂ − M v̇‖ / mean ‖M v̇‖ for forces M v̇ under the true mass matrix: weighs fast relativistic states."""
    return _mean_ratio(predicted - true, true, 1)


def embed(x: Float[np.ndarray, "*batch 2 dof"], spec: Spec) -> Float[np.ndarray, "*batch k"]:
    """States in coordinates without jumps: angles as (cos, sin), all else as it is."""
    q, v = x[..., 0, :], x[..., 1, :]
    if spec.lattice:
        return np.concatenate([q, v], axis=-1)
    angle = np.array(spec.is_angle())
    return np.concatenate([np.cos(q[..., angle]), np.sin(q[..., angle]), q[..., ~angle], v], axis=-1)


def rollout_error(predicted, true, spec: Spec, diverged: Int[np.ndarray, " start"]) -> Float[np.ndarray, "start time"]:
    """ε_t = ‖ẑ − z‖ / (‖ẑ‖ + ‖z‖), each component divided by its spread over the true motion; 1 from divergence on."""
    z, ẑ = embed(true, spec), embed(predicted, spec)
    spread = _spread(z, spec)
    with np.errstate(invalid="ignore", over="ignore"):
        z, ẑ = z / spread, ẑ / spread
        ε = np.linalg.norm(ẑ - z, axis=-1) / (np.linalg.norm(ẑ, axis=-1) + np.linalg.norm(z, axis=-1))
    return np.where(after(diverged, ε.shape[1]), 1.0, np.clip(ε, FLOOR, 1.0))


def distance(predicted, true, spec: Spec) -> Float[np.ndarray, "start time"]:
    """‖ẑ − z‖ / √⟨‖z − z̄‖²⟩, the mean over all true states; components divided by their spread."""
    z, ẑ = embed(true, spec), embed(predicted, spec)
    spread = _spread(z, spec)
    with np.errstate(invalid="ignore", over="ignore"):
        # each component divided by its spread has unit variance, so that ⟨‖z − z̄‖²⟩ is their number, but for those that never move
        moving = (z.std(axis=(0, 1)) > 0).sum() if not spec.lattice else z.shape[-1]
        return np.linalg.norm((ẑ - z) / spread, axis=-1) / np.sqrt(moving)


def _spread(z: Float[np.ndarray, "start time k"], spec: Spec) -> Float[np.ndarray, " k"]:
    """Standard deviation of each component; on a lattice one for q and one for v. Components that never move count in their own unit."""
    if spec.lattice:
        halves = z.reshape(*z.shape[:2], 2, -1).std(axis=(0, 1, 3))
        spread = np.repeat(halves, z.shape[-1] // 2)
    else:
        spread = z.std(axis=(0, 1))
    return np.where(spread > 0, spread, 1.0)


def first_frame(condition: np.ndarray) -> Int[np.ndarray, " start"]:
    """Index of the first frame at which the condition [start, time] holds; the number of frames where it never does."""
    return np.where(condition.any(axis=1), condition.argmax(axis=1), condition.shape[1])


def after(diverged: Int[np.ndarray, " start"], frames: int) -> np.ndarray:
    """[start, time]: from the frame of divergence on."""
    return np.arange(frames) >= np.asarray(diverged)[:, None]


def divergence(predicted, limit: Float[np.ndarray, "2 dof"], admissible: np.ndarray) -> Int[np.ndarray, " start"]:
    """First frame that is non-finite, outside ±limit, or not admissible (|v| ≥ 1 for a relativistic particle)."""
    with np.errstate(invalid="ignore"):
        inside = (np.abs(predicted) <= limit).all(axis=(2, 3))  # false for NaN too
    return first_frame(~(inside & admissible))


def valid_time(
    distance: Float[np.ndarray, "start time"], diverged, frame: float, reliable: Float[np.ndarray, " start"]
) -> Float[np.ndarray, " start"]:
    """First time [s] at which the distance exceeds 0.4, at most the time up to which two truth solvers agree."""
    with np.errstate(invalid="ignore"):
        beyond = ~(distance <= VALID) | after(diverged, distance.shape[1])
    return np.minimum((first_frame(beyond) + 1) * frame, reliable)


def energy_error(energy: Float[np.ndarray, "start time"], reference, scale, diverged) -> Float[np.ndarray, "start time"]:
    """|H(ẑ_t) − H(z_t)| / scale, +∞ from divergence on; `reference` H(z_t) [start, time], or H(z_0) [start, 1] where it is conserved."""
    with np.errstate(invalid="ignore"):
        error = np.abs(energy - np.asarray(reference)) / np.asarray(scale)[:, None]
    return np.where(after(diverged, error.shape[1]) | np.isnan(error), np.inf, error)


def momentum_error(predicted, true, diverged) -> Float[np.ndarray, " start"]:
    """|Σv̂ − Σv| / (N · rms v) on a ring, the largest over time; rms over the sites and times of the true motion."""
    v̂, v = predicted[:, :, 1], true[:, :, 1]
    rms = np.sqrt((v**2).mean(axis=(1, 2)))
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs(v̂.sum(-1) - v.sum(-1)) / (v.shape[-1] * rms[:, None])
    return np.where(after(diverged, error.shape[1]), np.inf, error).max(axis=1)


def final_field_error(predicted, true, diverged) -> Float[np.ndarray, " start"]:
    """‖φ̂ − φ‖ / ‖φ‖ at the last frame on a ring, the mean over sites removed from both."""
    φ̂, φ = predicted[:, -1, 0], true[:, -1, 0]
    φ̂, φ = φ̂ - φ̂.mean(-1, keepdims=True), φ - φ.mean(-1, keepdims=True)
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.linalg.norm(φ̂ - φ, axis=-1) / np.linalg.norm(φ, axis=-1)
    return np.where(np.asarray(diverged) < predicted.shape[1], np.inf, error)


def geometric_mean(ε) -> float:
    """exp⟨log ε⟩."""
    return float(np.exp(np.log(ε).mean()))
