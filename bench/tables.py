"""Tables: everything here is derived from `result.json` files and can be made again, byte for byte."""

from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

import models
from bench import grid, results
from bench.floors import FLOORS
from bench.presets import PRESETS

UNITS = {
    "valid_time": "s",
    "parameters": "1",
    "diverged_rollouts": "1",
    "train_seconds": "s",
    "compile_seconds": "s",
    "steps_per_second": "1/s",
    "samples_per_second": "1/s",
    "rollout_states_per_second": "1/s",
    "flops_per_step": "flop",
    "smallest_mass_eigenvalue": "1",
}  # all others are fractions: 1
METRICS = (
    *("train_loss", "validation_loss", "field_error", "acceleration_error", "force_error", "rollout_error", "valid_time"),
    *("energy_error_last_mean", "energy_error_last_median", "energy_error_mean", "energy_error_max", "own_energy_drift"),
    *("diverged_rollouts", "smallest_mass_eigenvalue", "momentum_error", "field_error_last", "parameters"),
)
SPEEDS = ("train_seconds", "compile_seconds", "steps_per_second", "samples_per_second", "rollout_states_per_second", "flops_per_step")
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
    "diverged_rollouts": "diverged",
    "train_seconds": "training [s]",
    "compile_seconds": "compiling [s]",
    "steps_per_second": "steps/s",
    "samples_per_second": "samples/s",
    "rollout_states_per_second": "rollout states/s",
    "flops_per_step": "flop/step",
    "parameters": "parameters",
}
ERRORS = tuple(HEADINGS)[:12]
COSTS = (*SPEEDS, "parameters")
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


def tidy(rows: list[dict], names: tuple[str, ...], part: str) -> pd.DataFrame:
    """One line per number: system, model, seed, metric, value, unit."""
    lines = [
        (r["system"], r["model"], "" if r["seed"] is None else str(r["seed"]), name, r[part][name], UNITS.get(name, "1"))
        for r in rows
        for name in names
        if name in r[part]
    ]
    return pd.DataFrame(lines, columns=["system", "model", "seed", "metric", "value", "unit"])


def number(value: float) -> str:
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

    def __init__(self, runs: list[dict], metric: str, part: str):
        values = [r[part][metric] for r in runs if metric in r[part]]
        self.metric = metric
        self.median = float(np.median(values)) if values else None
        self.low, self.high = (min(values), max(values)) if values else (None, None)
        self.diverged = sum(r["metrics"].get("diverged_rollouts", 0) for r in runs)

    def text(self) -> str:
        """Median; `– (k)` where k rollouts diverged and no mean over all of them exists."""
        if self.median is None:
            return "–"
        if self.median == np.inf and self.metric != "energy_error_last_median":
            return f"– ({self.diverged})"
        return number(self.median)

    def range(self) -> str:
        """Least and largest of the seeds, where they differ."""
        if self.low is None or self.high is None or self.low == self.high or self.median == np.inf:
            return ""
        return f"{number(self.low)}–{number(self.high)}"


class Sheet:
    """All that the tables of one results folder show."""

    def __init__(self, output: Path):
        self.manifest, self.rows, self.missing = grid.read_grid(output)
        _refuse_mixed_code(self.rows)

    def systems(self) -> list[str]:
        """Systems, in the order of the preset."""
        return list(dict.fromkeys(r["system"] for r in self.rows))

    def models(self, system: str) -> list[str]:
        """Models, then floors."""
        names = list(dict.fromkeys(r["model"] for r in self.rows if r["system"] == system))
        return sorted(names, key=lambda name: name in FLOORS)

    def runs(self, system: str, model: str) -> list[dict]:
        """Runs of a cell that have numbers."""
        return [r for r in self.rows if (r["system"], r["model"]) == (system, model) and r["status"] != "failed"]

    def columns(self, system: str, wanted: tuple[str, ...], part: str) -> list[str]:
        """The metrics that some row of the system has."""
        here = [r for r in self.rows if r["system"] == system]
        return [name for name in wanted if any(name in r[part] or (name == "parameters" and name in r["metrics"]) for r in here)]

    def body(self, system: str, columns: list[str], part: str, floors: bool = True) -> list[tuple[str, list[Cell], list[bool]]]:
        """(row title, cells, which of them are the best of their column) for each row."""
        names = [name for name in self.models(system) if floors or name not in FLOORS]
        cells = {name: [Cell(self.runs(system, name), c, "metrics" if c in METRICS else part) for c in columns] for name in names}
        best = []
        for i, column in enumerate(columns):
            values = [cells[name][i].median for name in names if name not in FLOORS]
            finite = [v for v in values if v is not None and np.isfinite(v)]
            choose = max if column in HIGHER_IS_BETTER else min
            best.append(choose(finite) if finite and part == "metrics" and column != "diverged_rollouts" else None)
        rows = []
        for name in names:
            title = FLOORS[name].title if name in FLOORS else name
            marks = [name not in FLOORS and b is not None and cell.median == b for cell, b in zip(cells[name], best, strict=True)]
            rows.append((title + self._hole(system, name), cells[name], marks))
        return rows

    def _hole(self, system: str, model: str) -> str:
        """What a row's title says when a run is missing, failed or diverged in training."""
        wanted = 1 if model in FLOORS else len(self.manifest["preset"]["seeds"])
        runs = self.runs(system, model)
        lost = [r for r in runs if r["status"] == "diverged"]
        parts = [f"{len(runs)} of {wanted} runs"] if len(runs) < wanted else []
        parts += [f"{len(lost)} training diverged at step {lost[0]['diverged_at_step']}"] if lost else []
        return f" ({', '.join(parts)})" if parts else ""

    def foreign(self) -> list[str]:
        """Cells whose numbers come from other code than the checkout's."""
        preset = PRESETS.get(self.manifest["name"])
        names = []
        for cell in grid.cells(preset) if preset else []:
            codes = {r["provenance"]["evaluation_code"] for r in self.runs(cell.system, cell.model)}
            if codes and codes != {cell.evaluation_code}:
                names.append(f"{cell.system} x {cell.model}")
        return names


def _refuse_mixed_code(rows: list[dict]) -> None:
    seen: dict[tuple, tuple] = {}
    for r in rows:
        code = tuple(r["provenance"].get(name) for name in ("training_code", "evaluation_code"))
        first = seen.setdefault((r["system"], r["model"]), (code, r["run"]))
        if first[0] != code:
            raise results.ResultsError(f"{r['run']} and {first[1]} come from different versions of the code: run `python -m bench run` again on one")


def markdown(sheet: Sheet) -> str:
    """The whole table with its notes."""
    preset, name = sheet.manifest["preset"], sheet.manifest["name"]
    seeds = len(preset["seeds"])
    spread = "range over" if seeds < 6 else "least and largest of"
    out = [f"# leastaction, preset `{name}`", ""]
    out += [f"Median over {seeds} seed{'s' * (seeds > 1)}, below it the {spread} the seeds. Errors are fractions; **bold** is the best model. "]
    out[-1] += "– (k): no mean exists, since k rollouts of all seeds together diverged. –: the model has no such thing."
    for system in sheet.systems():
        out += ["", f"## {system}", ""]
        out += _markdown_table(sheet, system, sheet.columns(system, ERRORS, "metrics"), "metrics", True)
    out += ["", "## Cost", "", "Synchronised, warm, nothing else running; the fastest of three. One CPU thread unless the device is another."]
    for system in sheet.systems():
        columns = sheet.columns(system, COSTS, "speed")
        if any(r["speed"] for r in sheet.rows if r["system"] == system):
            out += ["", f"### {system}", "", *_markdown_table(sheet, system, columns, "speed", False)]
    out += ["", "## Notes", "", *(f"* {note}" for note in notes(sheet))]
    return "\n".join(out) + "\n"


def _markdown_table(sheet: Sheet, system: str, columns: list[str], part: str, floors: bool) -> list[str]:
    lines = ["| | " + " | ".join(HEADINGS[c] for c in columns) + " |", "|---|" + "---:|" * len(columns)]
    for title, cells, best in sheet.body(system, columns, part, floors):
        texts = []
        for cell, bold in zip(cells, best, strict=True):
            text = f"**{cell.text()}**" if bold else cell.text()
            texts.append(f"{text}<br><sub>{cell.range()}</sub>" if cell.range() else text)
        lines.append(f"| {title} | " + " | ".join(texts) + " |")
    return lines


def notes(sheet: Sheet) -> list[str]:
    """What a reader must know: how the rows differ in what they are given, where they come from, what is missing."""
    preset = sheet.manifest["preset"]
    out = [
        f"Same for every model: data, {preset['steps']} steps of {preset['batch']} states, optimiser ({preset['optimizer']}, cosine), integrator, "
        "metrics; the learning rate was chosen for each with the same number of trials on validation data (`results/reference/tuning.csv`).",
        "*field*, *acceleration*, *force*: mean error over mean size on held-out states (1: predicting zero). *rollout*: geometric mean over a "
        "short window. "
        "*energy*: |H − H₀| of the true energy over the system's scale. *own energy*: drift of the learnt energy over its own spread. "
        "*valid*: time until the error exceeds 0.4 of the spread. *shape, last*: field at the end of the ring's rollout, mean removed.",
    ]
    shown = {r["model"] for r in sheet.rows}
    out += [f"`{name}` {models.get(name).note}." for name in models.names() if name in shown and models.get(name).note]
    failed = [r for r in sheet.rows if r["status"] == "failed"]
    out += [f"`{r['run']}` {r['why']}." for r in failed]
    if sheet.missing:
        out.append(f"Not there: {', '.join(sheet.missing)}.")
    if foreign := sheet.foreign():
        out.append(f"Made by other code than this checkout's: {', '.join(foreign)}.")
    finished = [r["provenance"] for r in sheet.rows if "commit" in r["provenance"]]
    commits = sorted({f"{(p['commit'] or 'none')[:10]}{' with changes' * bool(p['dirty'])}" for p in finished})
    devices = sorted({f"{p['device']}, {p['platform']}, jax {p['versions']['jax']}, Python {p['versions']['python']}" for p in finished})
    out.append(f"Commit {', '.join(commits)}; {'; '.join(devices)}.")
    return out


def write(output: Path) -> None:
    """Derives results.csv, speed.csv, table.md and the figure of a results folder."""
    from bench import figures

    sheet = Sheet(output)
    finished = [r for r in sheet.rows if r["status"] != "failed"]
    for name, frame in {"results.csv": tidy(finished, METRICS, "metrics"), "speed.csv": tidy(finished, SPEEDS, "speed")}.items():
        results.write_atomically(output / name, frame.to_csv(index=False, lineterminator="\n").encode())
    results.write_atomically(output / "table.md", markdown(sheet).encode())
    figures.energy_against_time(sheet, output)


def show(output: Path, console: Console) -> None:
    """Prints the most important columns."""
    sheet = Sheet(output)
    for system in sheet.systems():
        columns = [c for c in SHOWN if c in sheet.columns(system, SHOWN, "metrics")]
        table = Table(title=system, title_justify="left", title_style="bold", header_style="", padding=(0, 1))
        table.add_column("")
        for column in columns:
            table.add_column(HEADINGS[column], justify="right")
        for title, cells, best in sheet.body(system, columns, "metrics"):
            texts = [f"[bold]{c.text()}[/]" if b else c.text() for c, b in zip(cells, best, strict=True)]
            texts = [f"{text}\n[dim]{cell.range()}[/]" if cell.range() else text for text, cell in zip(texts, cells, strict=True)]
            table.add_row(title.replace("*", ""), *texts)
        console.print(table)
    for run in sheet.missing:
        console.print(f"missing: {run}", style="yellow")
    for r in sheet.rows:
        if r["status"] == "failed":
            console.print(f"{r['run']} {r['why']}", style="red", markup=False)
    console.print(f"Median over seeds, range below. All columns, cost and notes: {output / 'table.md'}", highlight=False)
