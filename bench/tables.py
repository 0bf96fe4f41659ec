"""Tables: everything here is derived from `result.json` files and can be made again, byte for byte."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

import models
from bench import results
from bench.sheet import COSTS, ERRORS, HEADINGS, METRICS, SHORT, SHOWN, SPEEDS, UNITS, Sheet

WIDE = 120  # columns of a terminal that has room for ranges


def tidy(rows: list[dict], names: tuple[str, ...], part: str) -> pd.DataFrame:
    """One line per number: system, model, seed, metric, value, unit."""
    lines = [
        (r["system"], r["model"], "" if r["seed"] is None else str(r["seed"]), name, r[part][name], UNITS.get(name, "1"))
        for r in rows
        for name in names
        if name in r[part]
    ]
    return pd.DataFrame(lines, columns=["system", "model", "seed", "metric", "value", "unit"])


def markdown(sheet: Sheet) -> str:
    """The whole table with its notes."""
    preset, name = sheet.manifest["preset"], sheet.manifest["name"]
    seeds = len(preset["seeds"])
    spread = "range over" if seeds < 6 else "least and largest of"
    out = [f"# leastaction, preset `{name}`", ""]
    out += [f"Median over {seeds} seed{'s' * (seeds > 1)}, below it the {spread} the seeds. Errors are fractions; **bold** is the best model. "]
    out[-1] += "– (k of n): no mean exists, since k of the n rollouts of all seeds diverged. –: the model has no such thing."
    for system in sheet.systems():
        out += ["", f"## {system}", ""]
        out += _markdown_table(sheet, system, sheet.columns(system, ERRORS), True)
    out += ["", "## Cost", "", "Synchronised, warm, nothing else running; the fastest of three. One CPU thread unless the device is another."]
    for system in sheet.systems():
        if any(r["speed"] for r in sheet.rows if r["system"] == system):
            out += ["", f"### {system}", "", *_markdown_table(sheet, system, sheet.columns(system, COSTS), False)]
    out += ["", "## Notes", "", *(f"* {note}" for note in notes(sheet))]
    return "\n".join(out) + "\n"


def _markdown_table(sheet: Sheet, system: str, columns: list[str], floors: bool) -> list[str]:
    lines = ["| | " + " | ".join(HEADINGS[c] for c in columns) + " |", "|---|" + "---:|" * len(columns)]
    for title, cells, best in sheet.body(system, columns, floors):
        texts = []
        for cell, bold in zip(cells, best, strict=True):
            text = f"**{cell.text()}**" if bold else cell.text()
            texts.append(f"{text}<br><sub>{cell.range()}</sub>" if cell.range() else text)
        lines.append(f"| {title} | " + " | ".join(texts) + " |")
    return lines


def inapplicable(sheet: Sheet) -> list[str]:
    """Which models cannot be asked to learn which system, and why."""
    return [f"{model} does not apply to {system}: {why}" for (system, model), why in sheet.inapplicable.items()]


def notes(sheet: Sheet) -> list[str]:
    """What a reader must know: how the rows differ in what they are given, where they come from, what is missing."""
    preset = sheet.manifest["preset"]
    if preset["learning_rate"] is not None:
        rate = f"learning rate {preset['learning_rate']:g} for all"
    elif preset["hyperparameters"] == "paper":
        rate = "learning rates as published"
    else:
        rate = "each learning rate chosen with the same number of trials on validation data (`results/reference/tuning.csv`)"
    out = [
        f"Same for every model: data, {preset['steps']} steps of {preset['batch']} states, optimiser ({preset['optimizer']}, cosine), integrator, "
        f"metrics; {rate}.",
        "*field*, *acceleration*, *force*: mean error over mean size on held-out states (1: predicting zero). *rollout*: geometric mean over a "
        "short window. "
        "*energy*: |H − H₀| of the true energy over the system's scale. *own energy*: drift of the learnt energy over its own spread. "
        "*valid*: time until the error exceeds 0.4 of the spread. *shape, last*: field at the end of the ring's rollout, mean removed.",
    ]
    if any("power_balance" in r["metrics"] for r in sheet.rows):
        out.append(
            "Where a force acts that no Lagrangian gives, energy errors are taken against the true energy at the same time, and a learnt energy is "
            "not asked to be kept. *power balance*: mean |∇H·ẋ̂ − F·v| over mean Σ|∂H/∂xᵢ ẋ̂ᵢ|, *power of the force*: the same over mean |F·v|."
        )
    if preset["signal"] != "own":
        out.append(f"Trained on {preset['signal']} alone (`signal`), whatever a model's own note says of it.")
    shown = {r["model"] for r in sheet.rows}
    out += [f"`{name}`: {models.get(name).note()}" for name in models.names() if name in shown and models.get(name).note()]
    out += [f"n/a: {line}." for line in inapplicable(sheet)]
    if holes := sheet.holes():
        total = len(sheet.manifest["runs"])
        lost = "; ".join(f"`{run}` {status}{f' ({why})' if why else ''}" for run, status, why in holes)
        out.append(f"{total - len(holes)} of {total} runs have numbers; the others are part of no median: {lost}.")
    finished = [r["provenance"] for r in sheet.rows if r["status"] not in results.LOST]
    commits = sorted({f"{(p['commit'] or 'none')[:10]}{' with changes' * bool(p['dirty'])}" for p in finished})
    devices = sorted({f"{p['device']}, {p['platform']}, jax {p['versions']['jax']}, Python {p['versions']['python']}" for p in finished})
    out.append(f"Commit {', '.join(commits)}; {'; '.join(devices)}.")
    return out


def runs(sheet: Sheet) -> pd.DataFrame:
    """One line per run of the grid, whatever became of it."""
    known = {r["run"]: r for r in sheet.rows}
    why = {run: (status, reason) for run, status, reason in sheet.holes()}
    lines = []
    for run in sheet.manifest["runs"]:
        system, model, *rest = run.split("-")
        provenance = known[run]["provenance"] if run in known else {}
        resumed = " ".join(map(str, provenance.get("resumed_at", [])))
        seed = rest[0].removeprefix("s") if len(rest) > 1 else ""
        lines.append((run, system, model, seed, *why.get(run, ("finished", "")), provenance.get("attempt", ""), resumed))
    return pd.DataFrame(lines, columns=["run", "system", "model", "seed", "status", "why", "attempt", "resumed_at"])


def write(output: Path) -> int:
    """Derives runs.csv, results.csv, speed.csv and table.md of a results folder. Returns how many runs are missing, damaged or lost."""
    sheet = Sheet(output)
    finished = [r for r in sheet.rows if r["status"] == "finished"]
    frames = {"runs.csv": runs(sheet), "results.csv": tidy(finished, METRICS, "metrics"), "speed.csv": tidy(finished, SPEEDS, "speed")}
    for name, frame in frames.items():
        results.write_atomically(output / name, frame.to_csv(index=False, lineterminator="\n").encode())
    results.write_atomically(output / "table.md", markdown(sheet).encode())
    return sum(status != "diverged" for _, status, _ in sheet.holes())


def errors(output: Path) -> list[str]:
    """The tables of errors alone, for a document."""
    sheet, lines = Sheet(output), []
    for system in sheet.systems():
        lines += ["", f"**{system}**", "", *_markdown_table(sheet, system, sheet.columns(system, ERRORS), True)]
    return lines


def foreign(sheet: Sheet) -> Iterator[str]:
    """Which rows were made by other code or packages than the checkout's: of this moment, and so no part of what is derived from results."""
    there = {(row["system"], row["model"]) for row in sheet.rows}
    for difference, names in sheet.foreign().items():
        yield f"Made by other code or packages than this checkout's: {'all rows' if len(names) == len(there) else ', '.join(names)} ({difference})."


def show(output: Path, console: Console, wanted: tuple[str, ...] = SHOWN) -> None:
    """Prints the most important columns, or those that are wanted."""
    sheet = Sheet(output)
    for system in sheet.systems():
        columns = sheet.columns(system, wanted)
        table = Table(title=system, title_justify="left", title_style="bold", header_style="underline", box=None, padding=(0, 2, 0, 0))
        table.add_column("", no_wrap=True)
        for column in columns:
            table.add_column(SHORT.get(column, HEADINGS[column]), justify="right", no_wrap=True)
        for title, cells, best in sheet.body(system, columns):
            texts = [f"[bold]{c.text(brief=True)}[/]" if b else c.text(brief=True) for c, b in zip(cells, best, strict=True)]
            if console.width >= WIDE:
                texts = [f"{text}\n[dim]{cell.range()}[/]" if cell.range() else text for text, cell in zip(texts, cells, strict=True)]
            table.add_row(title.replace("*", "").replace(", same integrator", "").replace(", start off by 1e-4", " + 1e-4"), *texts)
        console.print(table)
    for line in inapplicable(sheet):
        console.print(f"n/a: {line}", highlight=False, markup=False, soft_wrap=True)
    for run, status, why in sheet.holes():
        console.print(f"{run}: {status}{f' ({why})' if why else ''}", style="yellow" if status in ("missing", "diverged") else "red", markup=False)
    for line in foreign(sheet):
        console.print(line, style="yellow", highlight=False, markup=False, soft_wrap=True)
    console.print(
        f"Medians over seeds{', their range below' * (console.width >= WIDE)}. accel.: error of the acceleration. H: error of the true energy, at "
        "the last frame and over all; own H: drift of the learnt energy. – (k): no mean exists, since k rollouts of all seeds diverged.",
        highlight=False,
    )
    console.print(f"All columns, ranges, cost and notes: {output / 'table.md'}", highlight=False, soft_wrap=True)
