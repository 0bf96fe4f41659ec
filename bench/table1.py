"""Table 1, measured: every tick is the outcome of an experiment. Here cells are decided; `bench/ticks.py` shows them."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

import models
import systems
from bench import grid
from bench.claims import CLAIMS, COLUMNS, CORE, ENERGY_LEVEL, Claim, Criterion, Quantity
from bench.presets import Preset
from bench.runs import EVIDENCE, Runs
from bench.verdicts import ENOUGH, MARGIN, Effect, Verdict, together
from systems._rows import UnknownName

FLOOR_SHARE = 0.01  # of a threshold, which the truth under the same integrator must stay below: else the experiment measures the integrator
# what else is measured of a claim, and decides no cell
FOOTNOTES = dict.fromkeys((("coordinates", "hnn"), ("lagrangians", "hnn")), "HNN with true momenta")
FEWEST = 3  # seeds, with fewer of which nothing is said: their spread isn't seen
FLOOR = "double_pendulum", "truth"  # the run that shows what the integrator alone does
MARKS = {True: Verdict.YES.value, False: Verdict.NO.value}


@dataclass(frozen=True)
class Measured:
    """One criterion of a cell."""

    criterion: Criterion
    effect: Effect | None  # None: the model has no such thing, or runs are missing
    lacking: bool  # the model has no such thing

    def verdict(self, margin: float, factor: float = 1.0) -> Verdict:
        """Against the threshold times a factor."""
        if self.lacking:
            return Verdict.NO
        return Verdict.OPEN if self.effect is None else self.effect.against(factor * self.criterion.threshold, margin)


@dataclass(frozen=True)
class Cell:
    """One cell of the table, and how it was decided."""

    claim: Claim
    column: str
    model: str
    measured: tuple[Measured, ...]
    seeds: int  # the fewest of its systems
    missing: tuple[str, ...]  # runs without numbers, or systems without runs
    floor: bool  # whether the experiment measures the model, and not the integrator
    inapplicable: str = ""  # why it cannot be measured: a model that it needs cannot be asked to learn a system of the claim

    @property
    def margin(self) -> float:
        """By which an interval must be clear of a threshold: fewer than six seeds decide only what is clear by a factor of two."""
        return MARGIN if self.seeds < ENOUGH else 1.0

    @property
    def models(self) -> tuple[str, ...]:
        """All models whose runs decide it."""
        return tuple(dict.fromkeys((self.model, *(other for m in self.measured for other in m.criterion.against))))

    def verdict(self, factor: float = 1.0) -> Verdict:
        """With all thresholds moved by a factor."""
        if self.inapplicable:
            return Verdict.NONE
        if self.missing or not self.floor or self.seeds < FEWEST:
            return Verdict.NO if any(m.lacking for m in self.measured) else Verdict.OPEN
        return together([m.verdict(self.margin, factor) for m in self.measured])


class TableOne(Runs):
    """The table of one results folder. Raises `ResultsError` where presets or versions of the code are mixed."""

    def __init__(self, output: Path):
        super().__init__(output)
        self._values: dict[tuple[str, str, str], np.ndarray] = {}

    def values(self, quantity: Quantity, model: str, system: str) -> np.ndarray:
        """As measured, then of each draw."""
        key = quantity.name, model, system
        if key not in self._values:
            runs = self.curves(model, system)
            if not runs or any(curves and EVIDENCE not in curves for curves in runs):
                raise _Missing
            self._values[key] = quantity.values(runs)
        return self._values[key]

    def missing(self, model: str, system: str) -> tuple[str, ...]:
        """Runs of a cell without numbers, or the cell if there is none."""
        lost = [run for run, why in self.asked.get((system, model), {}).items() if why]
        absent = [f"{system} x {model}"] if not self.rows.get((system, model)) else []
        older = any(curves and EVIDENCE not in curves for curves in self.curves(model, system))
        return (*lost, *absent, *([f"{system} x {model} (evaluated by an older version)"] if older else []))

    def lacks(self, quantity: Quantity, model: str, systems: tuple[str, ...]) -> bool:
        """Whether a model has no such thing, wherever it was run."""
        there = [curves for system in systems for curves in self.curves(model, system) if curves]
        return bool(quantity.needs and there) and not any(quantity.needs in curves for curves in there)

    def cell(self, claim: Claim, column: str) -> Cell:
        """Decides one cell."""
        return self._decide(claim, column, claim.model(column))

    def footnotes(self) -> Iterator[tuple[str, Cell]]:
        """What was measured of a claim beside its cells."""
        for (name, model), text in FOOTNOTES.items():
            yield text, self._decide(claim_called(name), model, model)

    def beside(self, claim: Claim, model: str) -> Iterator[tuple[str, Effect]]:
        """What is told of a model beside what decides a claim."""
        for quantity, system in claim.beside:
            if self.rows.get((system, model)) and not self.lacks(quantity, model, (system,)):
                with suppress(_Missing):
                    yield f"{quantity.name}, {system}", Effect.of(self.values(quantity, model, system))

    def _decide(self, claim: Claim, column: str, model: str) -> Cell:
        measured = []
        for criterion in claim.criteria:
            lacking = self.lacks(criterion.quantity, model, criterion.systems)
            try:
                effect = None if lacking else Effect.of(criterion.combine(self.values, model))
            except _Missing:
                effect = None
            measured.append(Measured(criterion, effect, lacking))
        needed = {(model, system): None for system in claim.systems()}
        needed |= {(other, system): None for criterion in claim.criteria for other in criterion.against for system in criterion.systems}
        cannot = [f"{model} does not apply to {system}: {why}" for model, system in needed if (why := _inapplicable(model, system, self.preset))]
        if cannot:
            return Cell(claim, column, model, tuple(measured), 0, (), self._above_floor(claim), cannot[0])
        missing = tuple(run for pair in needed for run in self.missing(*pair))
        seeds = min(len(self.rows.get((system, model), {})) for model, system in needed)
        return Cell(claim, column, model, tuple(measured), seeds, missing, self._above_floor(claim))

    def _above_floor(self, claim: Claim) -> bool:
        for criterion in claim.criteria:
            if criterion.quantity is ENERGY_LEVEL:
                try:
                    return bool(self.values(ENERGY_LEVEL, FLOOR[1], FLOOR[0])[0] <= FLOOR_SHARE * criterion.threshold)
                except _Missing:
                    return False
        return True

    @cached_property
    def cells(self) -> dict[tuple[str, str], Cell]:
        """By claim and column."""
        return {(claim.name, column): self.cell(claim, column) for claim in CLAIMS for column in COLUMNS}


def straddling(table: TableOne) -> set[tuple[str, str]]:
    """(system, model) of all runs that more seeds of could decide a cell."""
    open_cells = [cell for cell in table.cells.values() if cell.verdict() == Verdict.OPEN and not cell.missing and cell.floor]
    return {(system, model) for cell in open_cells for system in cell.claim.systems() for model in cell.models}


def _inapplicable(model: str, system: str, preset: dict) -> str:
    return models.get(model).applies(systems.get(system, preset["constants"]))


class _Missing(ValueError):
    """There are no runs to decide from."""


def claim_called(name: str) -> Claim:
    """The claim of that name. Raises `UnknownName`."""
    for claim in CLAIMS:
        if claim.name == name:
            return claim
    raise UnknownName("row", name, tuple(claim.name for claim in CLAIMS))


def cells(preset: Preset) -> list[grid.Cell]:
    """All cells of a preset that the table needs, and that can be run."""
    wanted = grid.applicable(grid.Cell(preset, system, model) for system, names in asked_for().items() for model in names)
    return [*wanted, grid.Cell(preset, *FLOOR)]


def asked_for() -> dict[str, tuple[str, ...]]:
    """Models by system: all that the table needs, footnotes included."""
    wanted: dict[str, set[str]] = {}
    for claim in CLAIMS:
        also = {model for (name, model) in FOOTNOTES if name == claim.name}
        for system in claim.systems():
            wanted.setdefault(system, set()).update({claim.model(column) for column in COLUMNS} | also)
    order = [*CORE, *(system for system in wanted if system not in CORE)]
    return {system: tuple(model for model in COLUMNS if model in wanted[system]) for system in order}
