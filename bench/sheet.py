"""What the tables of a results folder show: medians over seeds, their ranges, holes, and which row is the best."""

import re
from collections import Counter
from functools import cached_property
from pathlib import Path

import numpy as np

import models
import systems
from bench import grid
from bench.floors import FLOORS
from bench.presets import PRESETS

UNITS = {
    "acceleration_l1": "units of v̇",
    "valid_time": "s",
    "parameters": "1",
    "diverged_rollouts": "1",
    "train_seconds": "s",
    "compile_seconds": "s",
    "steps_per_second": "1/s",
    "samples_per_second": "1/s",
    "rollout_states_per_second": "1/s",
    "flops_per_step": "flop",
    "temporary_bytes": "B",
    "smallest_mass_eigenvalue": "1",
}  # all others are fractions: 1
METRICS = (
    *("train_loss", "validation_loss", "field_error", "acceleration_error", "force_error", "acceleration_l1", "rollout_error", "valid_time"),
    *("energy_error_last_mean", "energy_error_last_median", "energy_error_mean", "energy_error_max", "own_energy_drift"),
    *("diverged_rollouts", "smallest_mass_eigenvalue", "momentum_error", "field_error_last", "parameters"),
    *("power_balance", "power_error"),
)
SPEEDS = (
    "train_seconds",
    "compile_seconds",
    "steps_per_second",
    "samples_per_second",
    "rollout_states_per_second",
    "flops_per_step",
    "temporary_bytes",
)
HEADINGS = {
    "field_error": "field",
    "acceleration_error": "acceleration",
    "force_error": "force",
    "rollout_error": "rollout",
    "valid_time": "valid [s]",
    "energy_error_last_mean": "energy, last: mean",
    "energy_error_last_median": "median",
    "energy_error_mean": "energy, all times: mean",
    "own_energy_drift": "own energy",
    "momentum_error": "momentum",
    "field_error_last": "shape, last",
    "power_balance": "power balance",
    "power_error": "power of the force",
    "diverged_rollouts": "diverged",
    "train_seconds": "training [s]",
    "compile_seconds": "compiling [s]",
    "steps_per_second": "steps/s",
    "samples_per_second": "samples/s",
    "rollout_states_per_second": "rollout states/s",
    "flops_per_step": "flop/step",
    "temporary_bytes": "memory [B]",
    "parameters": "parameters",
}
ERRORS = tuple(HEADINGS)[:14]
COSTS = (*SPEEDS, "parameters")
SHORT = {  # for 80 columns of a terminal
    "acceleration_error": "accel.",
    "energy_error_last_mean": "H last",
    "energy_error_last_median": "H last, med.",
    "energy_error_mean": "H mean",
    "own_energy_drift": "own H",
    "momentum_error": "mom.",
    "diverged_rollouts": "div.",
}
# which numbers a best one is marked in: a small drift of a learnt energy speaks of the integrator, and few divergences of little
COMPARED = tuple(name for name in ERRORS if name not in ("own_energy_drift", "diverged_rollouts"))
HIGHER_IS_BETTER = {"valid_time"}
SHOWN = (
    "acceleration_error",
    "rollout_error",
    "energy_error_last_mean",
    "energy_error_mean",
    "own_energy_drift",
    "momentum_error",
    "diverged_rollouts",
)


def number(value: float | int) -> str:
    """Two significant digits, three from 100 on."""
    if np.isnan(value):
        return "nan"
    if np.isinf(value):
        return "∞"
    if value == 0:
        return "0"
    if abs(value) >= 1e5:
        return f"{value:.1e}".replace("e+0", "e").replace("e+", "e")
    if abs(value) >= 100:
        return f"{value:.0f}"
    if abs(value) >= 0.001:
        return f"{value:.2g}" if abs(value) < 10 else f"{value:.3g}"
    return f"{value:.1e}".replace("e-0", "e-")


class Cell:
    """One number of a table: the median over seeds, their range, and what was lost."""

    def __init__(self, runs: list[dict], metric: str):
        values = [part[metric] for r in runs for part in (r["metrics"], r["speed"]) if metric in part]
        self.metric = metric
        self.median = float(np.median(values)) if values else None
        self.low, self.high = (min(values), max(values)) if values else (None, None)
        self.diverged = sum(r["metrics"].get("diverged_rollouts", 0) for r in runs)
        self.rollouts = sum(r["configuration"]["recording"]["starts"] for r in runs)

    def text(self, brief: bool = False) -> str:
        """Median; `– (k of n)` where k of n rollouts diverged and no mean over all of them exists, in brief `– (k)`."""
        if self.median is None:
            return "–"
        if self.median == np.inf and self.metric != "energy_error_last_median":
            return f"– ({self.diverged})" if brief else f"– ({self.diverged} of {self.rollouts})"
        return number(self.median)

    def range(self) -> str:
        """Least and largest of the seeds, where they differ."""
        if self.low is None or self.high is None or number(self.low) == number(self.high) or self.median == np.inf:
            return ""
        return f"{number(self.low)}–{number(self.high)}"


class Inapplicable(Cell):
    """The same of a model that cannot be asked to learn the system."""

    def __init__(self, metric: str):
        super().__init__([], metric)

    def text(self, brief: bool = False) -> str:
        """n/a."""
        return "n/a"


class Sheet:
    """All that the tables of one results folder show."""

    def __init__(self, output: Path):
        self.manifest, self.rows, self.absent = grid.read_grid(output)
        grid.refuse_mixed_code(self.rows)

    def systems(self) -> list[str]:
        """Systems, in the order of the preset."""
        return list(dict.fromkeys(run.partition("-")[0] for run in self.manifest["runs"]))

    def models(self, system: str) -> list[str]:
        """Models, then floors: all that the grid asks for, and models that cannot be asked to learn the system."""
        preset = self.manifest["preset"]
        names = list(dict.fromkeys(run.split("-")[1] for run in self.manifest["runs"] if run.startswith(f"{system}-")))
        names += [name for name in preset["models"] if (system, name) in self.inapplicable]
        return sorted(names, key=lambda name: (name in FLOORS, preset["models"].index(name) if name in preset["models"] else 0))

    @cached_property
    def inapplicable(self) -> dict[tuple[str, str], str]:
        """Why, by system and model, of cells that the preset spans and the grid has no runs of, since the model does not apply."""
        preset, asked = self.manifest["preset"], {tuple(run.split("-")[:2]) for run in self.manifest["runs"]}
        found = {}
        for system in self.systems():
            for name in preset["models"]:
                if (system, name) not in asked and name in models.names() and system in systems.names():
                    why = models.get(name).applies(systems.get(system, preset["constants"]))
                    found |= {(system, name): why} if why else {}
        return found

    def runs(self, system: str, model: str) -> list[dict]:
        """Runs of a cell that have numbers; what diverged in training is a hole like what is lost."""
        return [r for r in self.rows if (r["system"], r["model"]) == (system, model) and r["status"] == "finished"]

    def holes(self) -> list[tuple[str, str, str]]:
        """(run, status, why) of every run of the grid that has no numbers, in the grid's order."""
        known = {r["run"]: r for r in self.rows}
        holes = []
        for run in self.manifest["runs"]:
            if run in self.absent:
                status, _, why = self.absent[run].partition(": ")
                holes.append((run, status, why))
            elif known[run]["status"] != "finished":
                at = f"training diverged at step {known[run]['diverged_at_step']}"
                holes.append((run, known[run]["status"], at if known[run]["status"] == "diverged" else known[run]["why"]))
        return holes

    def columns(self, system: str, wanted: tuple[str, ...]) -> list[str]:
        """The metrics that some row of the system has."""
        here = [r["metrics"] | r["speed"] for r in self.rows if r["system"] == system and r["status"] == "finished"]
        return [name for name in wanted if any(name in row for row in here)]

    def body(self, system: str, columns: list[str], floors: bool = True) -> list[tuple[str, list[Cell], list[bool]]]:
        """(row title, cells, which of them are the best of their column) for each row."""
        names = [name for name in self.models(system) if floors or name not in FLOORS]
        cannot = {name for name in names if (system, name) in self.inapplicable}
        cells = {name: [Inapplicable(c) if name in cannot else Cell(self.runs(system, name), c) for c in columns] for name in names}
        whole = [name for name in names if name not in (*FLOORS, *cannot) and not self._hole(system, name)]  # survivors are not compared
        best = []
        for i, column in enumerate(columns):
            values = [cells[name][i].median for name in whole]
            finite = [v for v in values if v is not None and np.isfinite(v)]
            choose = max if column in HIGHER_IS_BETTER else min
            best.append(choose(finite) if finite and column in COMPARED else None)
        rows = []
        for name in names:
            title = FLOORS[name].title if name in FLOORS else name
            marks = [name in whole and b is not None and cell.median == b for cell, b in zip(cells[name], best, strict=True)]
            rows.append((title + self._hole(system, name), cells[name], marks))
        return rows

    def _hole(self, system: str, model: str) -> str:
        """What a row's title says when not all of its runs have numbers: how many have, and what became of the others."""
        wanted = 1 if model in FLOORS else len(self.manifest["preset"]["seeds"])
        there = len(self.runs(system, model))
        if there >= wanted or (system, model) in self.inapplicable:
            return ""
        name = re.compile(rf"{system}-{model}(-s\d+)?-[0-9a-f]+")
        lost = Counter(status for run, status, _ in self.holes() if name.fullmatch(run))
        return f" ({there} of {wanted} runs; {', '.join(f'{count} {status}' for status, count in lost.items())})"

    def foreign(self) -> dict[str, list[str]]:
        """Cells whose numbers come from other code or packages than the checkout's, by what is other."""
        preset = PRESETS.get(self.manifest["name"])
        cells: dict[str, list[str]] = {}
        for cell in grid.cells(preset) if preset else []:
            for difference in sorted({grid.unlike(row, cell) for row in self.runs(cell.system, cell.model)} - {""}):
                cells.setdefault(difference, []).append(f"{cell.system} x {cell.model}")
        return cells
