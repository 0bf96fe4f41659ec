"""Published figures beside ours under the nearest protocol, and what each part of the LNN's recipe brings in our budget."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from bench import budgets, grid, recipe, results
from bench.claims import CORE
from bench.data import DATA_FIELDS
from bench.grid import Cell, applicable
from bench.literature import FIGURES, Figure
from bench.presets import Preset, filled
from bench.recipe import RIVALS, RUNGS, Rung, spread
from bench.sheet import number


def cells(preset: Preset) -> list[Cell]:
    """All that the two tables need."""
    wanted = [Cell(rung.preset(preset), system, rung.model) for rung in (*RUNGS, *RIVALS) for system in CORE if rung.applies(system)]
    wanted += [Cell(figure.preset(preset), figure.system, figure.model) for figure in FIGURES]
    wanted += budgets.cells(preset)
    names: dict[str, Cell] = {cell.run_id(cell.seeds[0]): cell for cell in applicable(wanted)}
    return list(names.values())


class Published:
    """What was measured for the two tables, in one results folder."""

    def __init__(self, output: Path):
        self.output = output
        self.manifest, self.rows, self.holes = grid.read_grid(output, results.PUBLISHED)
        self.preset = Preset(**self.manifest["preset"])

    def of_figure(self, figure: Figure) -> list[dict]:
        """Its runs, those that diverged in training too."""
        return self.of(figure.preset(self.preset), figure.system, figure.model)

    def of_rung(self, rung: Rung, system: str) -> list[dict]:
        """All its runs on a system, those that diverged in training too."""
        return self.of(rung.preset(self.preset), system, rung.model)

    def of(self, preset: Preset, system: str, model: str) -> list[dict]:
        """Runs of a model on a system under a preset with numbers, or diverged in training; of a floor, by what it depends on of the preset."""
        asked = preset.of_a_run()
        return [
            row
            for row in self.rows
            if (row["system"], row["model"]) == (system, model)
            and row["status"] not in results.LOST
            and all(filled(row["configuration"]["preset"])[name] == asked[name] for name in (asked if row["seed"] is not None else DATA_FIELDS))
        ]

    def read(self, figure: Figure, row: dict) -> np.ndarray:
        """A figure of one of its runs: one number a start, or a single one; of a training that diverged the worst that there is."""
        if row["status"] == "diverged":
            return np.array([figure.worst])
        return figure.read(row, results.curves(grid.folder(self.output, row["run"]), row))


@dataclass(frozen=True)
class Ours:
    """A figure as we measure it: of each seed the summary over starts; the median start of the median seed and the largest start of all."""

    seeds: tuple[float, ...]
    median_start: float | None  # of a figure that is a mean over starts
    largest: float | None

    @property
    def value(self) -> float:
        """Median over seeds."""
        return float(np.median(self.seeds))


def measured(published: Published, figure: Figure) -> Ours | None:
    """Ours; None where nothing was run."""
    found = [published.read(figure, row) for row in published.of_figure(figure)]
    if not found:
        return None
    seeds = tuple(float(figure.summary(starts)) for starts in found)
    if max(map(len, found)) == 1:
        return Ours(seeds, None, None)
    return Ours(seeds, float(np.median([np.median(starts) for starts in found])), float(max(starts.max() for starts in found)))


# what people see ------------------------------------------------------------------------------------------------------


def markdown(published: Published) -> str:
    """Both tables."""
    seeds = len(published.manifest["preset"]["seeds"])
    out = ["# Published figures, side by side", ""]
    out += [f"Ours: median over {seeds} seeds, their range in brackets; then the median start of the median seed, and the largest start of all "]
    out[-1] += "seeds. Energy errors are fractions of 29.4 J; ∞: a start of it left the range of the data, or became infinite."
    heads = "figure", "system", "model", "published", "known of its spread", "ours", "median start", "largest", "ours / published"
    out += ["", f"| {' | '.join(heads)} | where the protocols differ |", f"|{'---|' * 3}---:|---|{'---:|' * 4}---|"]
    for figure in FIGURES:
        ours = measured(published, figure)
        numbers = ("?", "", "", "") if ours is None else _numbers(figure, ours)
        theirs = f"{figure.what} ({figure.source})", figure.system, figure.model, number(figure.theirs), figure.spread
        out.append(f"| {' | '.join((*theirs, *numbers))} | {figure.why} |")
    out += ["", *budgets.markdown(published.of, published.preset)]
    out += ["", *recipe.markdown(published.of_rung, published.manifest["preset"])]
    if published.holes:
        out += ["", f"{len(published.holes)} runs have no numbers: " + ", ".join(f"`{run}`" for run in published.holes) + "."]
    return "\n".join(out) + "\n"


def _numbers(figure: Figure, ours: Ours) -> tuple[str, ...]:
    of_starts = ("" if value is None else number(value) for value in (ours.median_start, ours.largest))
    return spread(ours.seeds), *of_starts, f"{number(ours.value / figure.theirs)} times"


def tidy(published: Published) -> pd.DataFrame:
    """One line a run and number, of both tables."""
    lines = []
    for figure in FIGURES:
        for row in published.of_figure(figure):
            ours = float(figure.summary(published.read(figure, row)))
            lines.append(("published", figure.what, figure.system, figure.model, row["run"], figure.theirs, ours))
    for rung in (*RUNGS, *RIVALS):
        for system in CORE:
            rows = published.of_rung(rung, system)
            found = zip(rows, recipe.errors(rows, recipe.ERROR), strict=True)
            lines += [("recipe", f"{rung.hyperparameters}, {rung.optimizer}", system, rung.model, row["run"], "", error) for row, error in found]
    lines += [
        ("budget", what, budgets.SYSTEM, model, run, budgets.PUBLISHED_LOSS, value)
        for what, model, run, value in budgets.tidy(published.of, published.preset)
    ]
    return pd.DataFrame(lines, columns=["table", "what", "system", "model", "run", "published", "ours"])


def write(output: Path) -> Published:
    """published.md and published.csv of a results folder."""
    published = Published(output)
    results.write_atomically(output / "published.md", markdown(published).encode())
    results.write_atomically(output / "published.csv", tidy(published).to_csv(index=False, float_format="%.6g", lineterminator="\n").encode())
    return published


def show(published: Published, console: Console) -> None:
    """The two tables, in a terminal."""

    def table(title: str, *heads: str) -> Table:
        made = Table(title=title, title_justify="left", title_style="bold", header_style="underline", box=None, padding=(0, 2, 0, 0))
        for i, head in enumerate(heads):
            made.add_column(head, justify="right" if i else "left")
        return made

    figures = table("Published figures", "", "published", "ours")
    for figure in FIGURES:
        ours = measured(published, figure)
        title = f"{figure.system}, {figure.model}: {figure.what}"
        figures.add_row(title, number(figure.theirs), "?" if ours is None else spread(ours.seeds))
    parts = table("The LNN's recipe: acceleration error, failed trainings", "", *CORE)
    for rung in RUNGS:
        parts.add_row(rung.title, *(recipe.brief(rung, published.of_rung(rung, system), system) for system in CORE))
    for made in (figures, parts):
        console.print(made)
    for line in recipe.on_the_forward_error(published.of_rung):
        console.print(line, highlight=False, soft_wrap=True)
