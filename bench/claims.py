"""The five claims of Table 1 of the Lagrangian Neural Networks paper, each an experiment with thresholds and expectations.

Fixed after trials with prototypes and before the reference was run: no threshold and no expectation was changed for a result of it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bench.verdicts import median_of_ratios

COLUMNS = {  # model of each column, in the paper's order, then ours
    "mlp": "neural network",
    "neural_ode": "neural ODE",
    "hnn": "HNN",
    "delan": "DeLaN",
    "lnn": "LNN",
    "second_order_ode": "second-order ODE",
    "hnn_naive": "naive HNN",
}
PLAIN = "second_order_ode"  # what a chart does to a model that knows no mechanics
CORE = ("double_pendulum", "relativistic_particle", "wave")
CHARTS = (("planar_particle", "planar_polar", "planar_warped"), ("double_pendulum", "pendulum_relative", "pendulum_warped"))
LAGRANGIANS = ("relativistic_particle", "magnetic_charge", "quartic_particle")
HORIZON, EARLY = 100.0, 1.0  # s, of the double pendulum
EXACT = 1e-6  # of the energy scale, ten times what the integrator alone loses in 100 s: of what is below, growth says nothing

Curves = dict[str, np.ndarray]
Values = Callable[["Quantity", str, str], np.ndarray]  # of a quantity, a model and a system: as measured, then of each draw


@dataclass(frozen=True)
class Quantity:
    """Something measured on every unit of a run: the largest over k of reduce(top)/reduce(bottom), reduce being over units."""

    name: str
    parts: Callable[[Curves], tuple[np.ndarray, np.ndarray]]  # (top, bottom), each [k, unit]
    reduce: Callable = np.mean
    needs: str = ""  # a curve without which a model has no such thing

    def values(self, runs: list[Curves]) -> np.ndarray:
        """Value and draws from the curves of one cell's runs; a run that diverged in training has none, and counts as infinite."""
        parts = [self.parts(curves) if curves else None for curves in runs]
        shape = next((p[0].shape for p in parts if p is not None), (1, 1))
        lost = np.full(shape, np.inf), np.ones(shape)
        top, bottom = (np.array(part, float) for part in zip(*(p or lost for p in parts), strict=True))
        return median_of_ratios(self.reduce, top, bottom)


def _at_intervals(*chosen: int):
    return lambda curves: (curves["interval_error"][list(chosen)], curves["interval_change"][list(chosen)])


def _frame_at(curves: Curves, time: float) -> np.ndarray:
    return curves["energy_error"][None, :, np.abs(curves["time"] - time).argmin()]


ONE_FRAME = Quantity("error one frame ahead / that of persistence", _at_intervals(2))
OTHER_INTERVALS = Quantity("error at 1/4, 1/2 and 2 frames / that of persistence, the largest", _at_intervals(0, 1, 3))
GROWTH = Quantity(
    "median energy error at 100 s / at 1 s, 1e-6 added to both",
    lambda curves: (_frame_at(curves, HORIZON) + EXACT, _frame_at(curves, EARLY) + EXACT),
    np.median,
    "energy_error",
)
ENERGY_LEVEL = Quantity(
    "median energy error at 100 s", lambda curves: (_frame_at(curves, HORIZON), np.ones_like(_frame_at(curves, HORIZON))), np.median, "energy_error"
)
ACCELERATION = Quantity(
    "acceleration error", lambda curves: (curves["acceleration_error"][None], curves["acceleration_size"][None]), needs="acceleration_error"
)
LEARNT_ENERGY = Quantity(
    "rate of the learnt energy along the true motion / all that flows through it, mean |dE/dt| / mean Σ|∂E/∂xᵢ ẋᵢ|",
    lambda curves: (curves["charge_energy_change"][[1]], curves["charge_energy_exchange"][[1]]),
    needs="charge_energy_change",
)


# a learnt energy that is exact drifts by the integrator alone: 2⁵ = 32 times less with steps half as long, or more where these were unstable
ORDER = Quantity(
    "drift of the learnt energy with steps twice as long as a rollout's / with these "
    "(2⁵ = 32 by the integrator's order, more where long steps are unstable)",
    lambda curves: (curves["own_energy_coarse"][[0]], curves["own_energy_coarse"][[1]]),
    np.median,
    "own_energy_coarse",
)


@dataclass(frozen=True)
class Criterion:
    """A number that must not exceed a threshold."""

    name: str
    threshold: float
    why: str  # of the threshold
    quantity: Quantity
    systems: tuple[str, ...]
    combine: Callable[[Values, str], np.ndarray]  # of a model: its effect, as measured and of each draw
    against: tuple[str, ...] = ()  # other models that its effect is measured against


def worst(quantity: Quantity, systems: tuple[str, ...]) -> Callable[[Values, str], np.ndarray]:
    """The largest over systems."""
    return lambda values, model: np.max([values(quantity, model, system) for system in systems], axis=0)


def harm(quantity: Quantity, groups: tuple[tuple[str, ...], ...]) -> Callable[[Values, str], np.ndarray]:
    """Worst over best chart, divided by the same of a model that knows no mechanics; the largest over mechanical systems.

    Not a number where that model has none: then nothing is known.
    """

    def ratio(values: Values, model: str, group: tuple[str, ...]) -> np.ndarray:
        errors = np.array([values(quantity, model, system) for system in group])
        with np.errstate(invalid="ignore"):
            return np.where(np.isinf(errors.max(axis=0)), np.inf, errors.max(axis=0) / errors.min(axis=0))

    def against_plain(values: Values, model: str, group: tuple[str, ...]) -> np.ndarray:
        plain = ratio(values, PLAIN, group)
        return np.where(np.isinf(plain), np.nan, ratio(values, model, group)) / np.where(np.isinf(plain), 1.0, plain)

    return lambda values, model: np.max([against_plain(values, model, group) for group in groups], axis=0)


@dataclass(frozen=True)
class Claim:
    """A row of the table."""

    name: str  # on the command line
    title: str  # the paper's words
    experiment: str
    criteria: tuple[Criterion, ...]
    ticks: dict[str, bool]  # of the paper, by column
    expected: dict[str, bool]  # ours, by column, written down before
    stand_in: dict[str, str]  # the model that stands in a column, where it isn't the one of its name
    lacks: str = ""  # why a model without one of the quantities fails
    beside: tuple[tuple[Quantity, str], ...] = ()  # quantities, each on a system, that are told and decide nothing

    def model(self, column: str) -> str:
        """The model whose runs decide a column."""
        return self.stand_in.get(column, column)

    def systems(self) -> tuple[str, ...]:
        """All systems of its criteria."""
        return tuple(dict.fromkeys(system for criterion in self.criteria for system in criterion.systems))


def _by_column(marks: str) -> dict[str, bool]:
    return {column: mark == "y" for column, mark in zip(COLUMNS, marks, strict=False)}


_ALL_CHARTS = tuple(dict.fromkeys(system for group in CHARTS for system in group))

CLAIMS = (
    Claim(
        "systems",
        "Can model dynamical systems",
        "Trained on trajectories of each of the three systems, and asked for held-out states one frame ahead.",
        (
            Criterion(
                "one frame",
                0.1,
                "a tenth of what persistence gets: ten times better than knowing nothing, on every system, and far from both sides in prototypes",
                ONE_FRAME,
                CORE,
                worst(ONE_FRAME, CORE),
            ),
        ),
        _by_column("yyyyy"),
        _by_column("yyyyyyn"),
        {},
    ),
    Claim(
        "equations",
        "Learns differential equations",
        "Trained once, asked at a quarter, half and twice the training interval with a converged solver. The step map enters as the field f/Δ.",
        (
            Criterion(
                "other intervals",
                0.1,
                "as above: a tenth of what persistence gets at the same interval",
                OTHER_INTERVALS,
                CORE,
                worst(OTHER_INTERVALS, CORE),
            ),
        ),
        _by_column("nyyyy"),
        _by_column("nyyyyyn"),
        {},
    ),
    Claim(
        "conservation",
        "Learns exact conservation laws",
        "Double pendulum, 40 starts, 100 s: the true energy along the predicted motion.",
        (
            Criterion(
                "growth",
                3.0,
                "an error that is kept stays; one that walks at random grows by √100 = 10 from 1 s to 100 s, one that drifts by 100: "
                "3 is √10, half-way to the walk on a logarithmic scale",
                GROWTH,
                ("double_pendulum",),
                worst(GROWTH, ("double_pendulum",)),
            ),
            Criterion(
                "level",
                0.02,
                "of the largest potential energy: a wrong energy that is kept exactly, as the naive HNN's, is no conservation law of the system",
                ENERGY_LEVEL,
                ("double_pendulum",),
                worst(ENERGY_LEVEL, ("double_pendulum",)),
            ),
        ),
        _by_column("nnyyy"),
        _by_column("nnyyynn"),
        {},
        beside=((ORDER, "double_pendulum"),),
    ),
    Claim(
        "coordinates",
        "Learns from arbitrary coordinates",
        "A planar particle in Cartesian, polar and warped coordinates, a double pendulum in absolute, relative and warped angles; velocities given "
        "and no momenta, so that an HNN takes v for p. Scored one frame ahead, in one chart for all. Harm: the error in the "
        "worst chart of a system over "
        "that in the best, divided by the same of the second-order ODE.",
        (
            Criterion("error", 0.1, "as in the first row, in every chart", ONE_FRAME, _ALL_CHARTS, worst(ONE_FRAME, _ALL_CHARTS)),
            Criterion(
                "harm",
                5.0,
                "curved charts are harder for everyone; five times harder than for a model that knows no mechanics is the fault of the model",
                ONE_FRAME,
                _ALL_CHARTS,
                harm(ONE_FRAME, CHARTS),
                (PLAIN,),
            ),
        ),
        _by_column("yynyy"),
        _by_column("yynyyyn"),
        {"hnn": "hnn_naive"},
    ),
    Claim(
        "lagrangians",
        "Learns arbitrary Lagrangians",
        "Positions and velocities of a relativistic particle, of a charge in a non-uniform magnetic field and of a particle whose kinetic energy is "
        "quartic in v: is the acceleration right, and is there a learnt energy that the true motion keeps?",
        (
            Criterion(
                "acceleration",
                0.05,
                "half of the first row's tenth, of the acceleration alone; the nearest wrong Lagrangian, quadratic in v, got 0.2 "
                "to 0.8 in prototypes",
                ACCELERATION,
                LAGRANGIANS,
                worst(ACCELERATION, LAGRANGIANS),
            ),
            Criterion(
                "learnt energy",
                0.05,
                "a twentieth of what flows between its parts: of kinetic and potential energy, say, 19 parts in 20 must reappear. (Its spread along "
                "a motion over that between motions would let −g q pass for the energy of the relativistic particle.)",
                LEARNT_ENERGY,
                LAGRANGIANS,
                worst(LEARNT_ENERGY, LAGRANGIANS),
            ),
        ),
        _by_column("nnnny"),
        _by_column("nnnnynn"),
        {"hnn": "hnn_naive"},
        "has no learnt energy",
    ),
)
