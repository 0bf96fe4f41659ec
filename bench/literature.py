"""Published figures with their sources, how ours is read from a run under the nearest protocol, and where the protocols differ."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from bench.claims import Curves
from bench.presets import Preset

SITES = 100.0  # of the evaluation ring, which a wave of speed 1 passes in as many seconds
LNN_PAPER = "Cranmer et al. 2020"


@dataclass(frozen=True)
class Figure:
    """A published figure, and how ours is read from a run."""

    what: str
    source: str
    theirs: float
    spread: str  # what is known of theirs beyond the figure
    system: str
    model: str
    read: Callable[[dict, Curves], np.ndarray]  # of a run: one number a start, or a single one
    summary: Callable[[np.ndarray], float]
    why: str  # where the protocols differ
    sampling: Literal["trajectories", "fresh"] = "trajectories"
    worst: float = np.inf  # what a training that diverged counts as
    as_published: bool = False  # with the model's published hyper-parameters and Adam, in our budget; otherwise by the recipe of `make bench`

    def preset(self, preset: Preset) -> Preset:
        """The preset that trains ours."""
        law = {"sampling": "fresh", "constants": "paper"} if self.sampling == "fresh" else {}
        recipe = {"hyperparameters": "paper", "optimizer": "adam"} if self.as_published else {}
        return replace(preset, **law, **recipe)


def _metric(name: str, unit: float = 1.0):
    return lambda row, curves: np.array([row["metrics"][name] / unit])


def _energy_at(time: float):
    return lambda row, curves: curves["energy_error"][:, np.abs(curves["time"] - time).argmin()].astype(float)


def _rollout(row: dict, curves: Curves) -> np.ndarray:
    return curves["rollout_error_of_start"].astype(float)


def _geometric_mean(values: np.ndarray) -> float:
    return float(np.exp(np.log(values).mean()))


_LNN_BUDGET = "published after 3e8 samples at width 500; ours after 7.7e5 with 8800 weights, on trajectories instead of independent states"
_FINZI = "Finzi, Wang, Wilson 2020, their public notebooks/pendulum-geom-mean.csv, rows 2-Pendulum, avg_rel_err_pred, 100 for each model"
_FINZI_WHY = (
    "theirs: trained in angles, on rollouts over 800 pieces of 5 points; errors of Cartesian positions and velocities as they are, over 3 s in "
    "frames of 0.03 s; other masses and lengths. Ours: angles as (cos, sin), components over their spread, 5 s in frames of 0.1 s, the given state "
    "not counted"
)
_FINZI_HNN_WHY = (
    "as above. Their HNN is ½ pᵀM⁻¹(q)p + V(q) with p = M(q)v, in effect a DeLaN, and is given no momenta; ours is a free H(q, p), is given true "
    "ones, and learns from derivatives"
)
_REPLICA = "public code danrixd/hnn-double-pendulum, README"
_REPLICA_WHY = (
    "theirs: as a share of the size of H(0), gentle starts (θ within ±1.5), full-batch Adam; ours: as a share of 29.4 J, any start nearly at rest"
)
_RELATIVISTIC_WHY = (
    "the published losses are not one quantity (the LNN's counts q̈ only, an HNN's both rates of its own chart), and one in seven of the states that "
    "they draw lies above a speed of 0.995, where single precision knows little; ours: mean size of the error of q̈ on the same held-out states"
)
_NORMALISED_WHY = (
    "it learns nothing: in this law p = γ³v, half of the states have p within ±8 and one in a hundred beyond ±6.5e5, so that inputs divided by "
    "their spread, 4.6e8, are all alike. In make bench p stays within ±4, and it learns"
)
FIGURES = (
    Figure(
        "energy error after 100 s, mean of 40 starts",
        LNN_PAPER,
        0.004,
        "median of starts 0.0011",
        "double_pendulum",
        "lnn",
        _energy_at(100.0),
        np.mean,
        _LNN_BUDGET,
    ),
    Figure(
        "the same of the baseline",
        LNN_PAPER,
        0.08,
        "median of starts 0.0097, largest 2.29: one start makes most of the mean",
        "double_pendulum",
        "second_order_ode",
        _energy_at(100.0),
        np.mean,
        f"{_LNN_BUDGET}. Their baseline is a second-order model: it regresses accelerations",
    ),
    Figure(
        "acceleration loss, L1 norm [rad/s²], on independent states",
        LNN_PAPER,
        0.073,
        "mean L1 norm of the acceleration there: 46.8",
        "double_pendulum",
        "lnn",
        _metric("acceleration_l1"),
        np.mean,
        "same law of states (ω up to 10 rad/s), drawn anew at every step; ours in 6000 steps of 128 states, published in 9.4 million of 32",
        "fresh",
    ),
    Figure(
        "the same of the baseline",
        LNN_PAPER,
        0.074,
        "",
        "double_pendulum",
        "second_order_ode",
        _metric("acceleration_l1"),
        np.mean,
        "as above",
        "fresh",
    ),
    *(
        Figure(what, LNN_PAPER, theirs, "", "relativistic_particle", model, _metric("acceleration_l1"), np.mean, why, "fresh", as_published=as_paper)
        for what, theirs, model, as_paper, why in (
            ("loss, LNN", 7.9e-4, "lnn", False, _RELATIVISTIC_WHY),
            (
                "loss, HNN with true momenta",
                2.4e-4,
                "hnn",
                True,
                "as above; ours with its published hyper-parameters (width 500, nothing normalised, Adam from 1e-3) in our 6000 steps",
            ),
            ("loss, HNN with true momenta, by the recipe of make bench", 2.4e-4, "hnn", False, _NORMALISED_WHY),
            ("loss, HNN with wrong coordinates", 0.41, "hnn_naive", True, "as the first HNN"),
            ("loss, predicting zero", 0.40, "predict_zero", False, "this ratio shows what the quantities differ by"),
        )
    ),
    Figure(
        "passes around a ring of 100 sites that the prediction follows",
        f"{LNN_PAPER}, figure 4",
        3.5,
        "by eye; the text promises five",
        "wave",
        "lnn",
        _metric("valid_time", SITES),
        np.mean,
        "ours: until the error exceeds 0.4 of the spread, median of 16 pulses; 3.5 passes are all there is. Trained on rings of 16, theirs of 10",
        worst=0.0,
    ),
    *(
        Figure(f"relative rollout error, geometric mean, {title}", _FINZI, theirs, spread, "double_pendulum", model, _rollout, _geometric_mean, why)
        for title, theirs, spread, model, why in (
            ("neural ODE", 0.0645, "median 0.046, largest 0.63", "neural_ode", _FINZI_WHY),
            (
                "HNN",
                0.0019,
                "median 0.0011, largest 0.23",
                "hnn",
                _FINZI_HNN_WHY,
            ),
            ("DeLaN", 0.00125, "median 7.5e-4, largest 0.10", "delan", "as above"),
        )
    ),
    Figure(
        "energy error after 20 s, median of starts, HNN",
        _REPLICA,
        0.0028,
        "mean 0.0082",
        "double_pendulum",
        "hnn",
        _energy_at(20.0),
        np.median,
        _REPLICA_WHY,
    ),
    Figure(
        "the same of a perceptron for the rates",
        _REPLICA,
        0.144,
        "mean 0.188",
        "double_pendulum",
        "second_order_ode",
        _energy_at(20.0),
        np.median,
        "as above; theirs learns both rates in (q, p), ours knows that q̇ = v",
    ),
)
