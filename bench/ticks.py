"""What people see of Table 1: derived from results, byte for byte, like every other table."""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from bench import results
from bench.claims import CLAIMS, COLUMNS, Claim
from bench.sheet import number
from bench.table1 import FEWEST, MARKS, Cell, Measured, TableOne, claim_called
from bench.verdicts import ENOUGH, MARGIN, Effect, Verdict
from systems._rows import UnknownName


def interval(e: Effect) -> str:
    """0.0031 (0.0028–0.004)."""
    return f"{number(e.value)} ({number(e.low)}–{number(e.high)})"


def effect_text(measured: Measured) -> str:
    """The same of a criterion, or that there is none."""
    if measured.effect is None:
        return "none" if measured.lacking else "?"
    return interval(measured.effect)


def markdown(table: TableOne) -> str:
    """The table, how each cell was decided, where it differs from the paper, and how much hangs on the thresholds."""
    out = ["# Table 1, measured", ""]
    out += ["Rows and ticks as in Cranmer et al. 2020, Table 1; each cell is the outcome of an experiment. ✓: the 95 % bootstrap interval over "]
    out[-1] += (
        "seeds and trajectories lies at or below the threshold, ✗: above it, ?: undecided. Three to five seeds, whose interval covers less, decide "
    )
    out[-1] += (
        f"only what is clear by a factor of {MARGIN:g}; fewer decide nothing. `python -m bench table1 --explain ROW MODEL` shows how a cell was "
    )
    out[-1] += "decided, down to its runs. Errors are taken on 64 held-out trajectories, 8 states of each: on fewer states than in table.md."
    out += ["", *ticks(table, linked=True)]
    for claim in CLAIMS:
        out += ["", f"## {claim.title} (`{claim.name}`)", "", claim.experiment, ""]
        out += ["| | " + " | ".join(f"{c.name} ≤ {c.threshold:g}" for c in claim.criteria) + " | seeds | measured | paper | expected |"]
        out += ["|---|" + "---:|" * len(claim.criteria) + "---:|:---:|:---:|:---:|"]
        for column in COLUMNS:
            cell = table.cells[claim.name, column]
            title = COLUMNS[column] + (f", runs of `{cell.model}`" if cell.model != column else "")
            paper = MARKS[claim.ticks[column]] if column in claim.ticks else ""
            effects = " | ".join(effect_text(m) for m in cell.measured)
            out.append(f"| {title} | {effects} | {cell.seeds} | {cell.verdict().value} | {paper} | {MARKS[claim.expected[column]]} |")
        out += ["", *_of_systems(table, claim)]
        out += [f"* {c.name}: {c.quantity.name}; threshold {c.threshold:g}: {c.why}." for c in claim.criteria]
        out += [
            f"* {text} (no cell): {', '.join(f'{m.criterion.name} {effect_text(m)}' for m in cell.measured)}."
            for text, cell in table.footnotes()
            if cell.claim is claim
        ]
        for quantity, system in claim.beside:
            told = {COLUMNS[column]: dict(table.beside(claim, claim.model(column))).get(f"{quantity.name}, {system}") for column in COLUMNS}
            out.append(f"* {quantity.name}, {system} (decides nothing): {', '.join(f'{who} {interval(e)}' for who, e in told.items() if e)}.")
    for title, lines in (
        ("Where the paper says otherwise", list(differences(table))),
        ("Where we had expected otherwise", list(surprises(table))),
        ("What a factor of two in the thresholds would change", list(sensitive(table))),
        ("Undecided", list(undecided(table))),
    ):
        out += ["", f"## {title}", "", *([f"* {line}" for line in lines] or ["Nothing."])]
    return "\n".join(out) + "\n"


def ticks(table: TableOne, linked: bool = False) -> list[str]:
    """The ticks alone; `linked`: each leads to its numbers further below."""
    lines = ["| | " + " | ".join(COLUMNS.values()) + " |", "|---|" + ":---:|" * len(COLUMNS)]
    for claim in CLAIMS:
        verdicts = [table.cells[claim.name, column].verdict().value for column in COLUMNS]
        if linked:
            verdicts = [f"[{verdict}](#{re.sub('[^a-z -]', '', f'{claim.title} {claim.name}'.lower()).replace(' ', '-')})" for verdict in verdicts]
        lines.append(f"| {claim.title} | {' | '.join(verdicts)} |")
    return lines


def of_system(table: TableOne, measured: Measured, model: str, system: str) -> Effect | None:
    """The quantity of a criterion for one model on one system, before they are combined; None where there is none."""
    if not measured.lacking:
        with suppress(ValueError):  # no runs, or such as were evaluated by an older version
            return Effect.of(table.values(measured.criterion.quantity, model, system))
    return None


def _of_systems(table: TableOne, claim: Claim) -> list[str]:
    """A table of what was measured on each system, for each quantity that is measured on several."""
    out, told = [], set()
    for i, criterion in enumerate(claim.criteria):
        if len(criterion.systems) < 2 or criterion.quantity.name in told:
            continue
        told.add(criterion.quantity.name)
        out += [f"| {criterion.name} | " + " | ".join(criterion.systems) + " |", "|---|" + "---:|" * len(criterion.systems)]
        for column in COLUMNS:
            cell = table.cells[claim.name, column]
            effects = [of_system(table, cell.measured[i], cell.model, system) for system in criterion.systems]
            if any(effects):
                out.append(f"| {COLUMNS[column]} | " + " | ".join("–" if e is None else number(e.value) for e in effects) + " |")
        out.append("")
    return out


def _line(table: TableOne, cell: Cell) -> str:
    parts = [cell.claim.lacks] if any(m.lacking for m in cell.measured) else []
    for m in cell.measured:
        if not m.lacking:
            effects = {system: of_system(table, m, cell.model, system) for system in m.criterion.systems}
            each = ", ".join(f"{system} {number(e.value)}" for system, e in effects.items() if e is not None)
            parts.append(f"{m.criterion.name} {effect_text(m)} against {m.criterion.threshold:g}" + (f" ({each})" if len(effects) > 1 else ""))
    return f"{cell.claim.title}, {COLUMNS[cell.column]}: {'; '.join(parts)}"


def differences(table: TableOne) -> Iterator[str]:
    """Cells that are decided, and not as the paper has them."""
    for (_, column), cell in table.cells.items():
        if column in cell.claim.ticks and cell.verdict().decided and cell.verdict() != MARKS[cell.claim.ticks[column]]:
            yield f"{_line(table, cell)}: measured {cell.verdict().value}, paper {MARKS[cell.claim.ticks[column]]}"


def surprises(table: TableOne) -> Iterator[str]:
    """Cells that are decided, and not as was written down before."""
    for (_, column), cell in table.cells.items():
        if cell.verdict().decided and cell.verdict() != MARKS[cell.claim.expected[column]]:
            yield f"{_line(table, cell)}: measured {cell.verdict().value}, expected {MARKS[cell.claim.expected[column]]}"


def sensitive(table: TableOne) -> Iterator[str]:
    """Cells whose verdict hangs on the threshold."""
    for cell in table.cells.values():
        moved = {f"{factor:g} times": cell.verdict(factor) for factor in (0.5, 2.0)}
        changed = [f"{v.value} at {name} the threshold{'s' * (len(cell.measured) > 1)}" for name, v in moved.items() if v != cell.verdict()]
        if changed and not cell.missing:
            yield f"{_line(table, cell)}: {cell.verdict().value}, {', '.join(changed)}"


def undecided(table: TableOne) -> Iterator[str]:
    """Cells that are open, or cannot be asked, and why."""
    for cell in table.cells.values():
        if cell.inapplicable:
            yield f"{cell.claim.title}, {COLUMNS[cell.column]}: n/a, since {cell.inapplicable}"
        if cell.verdict() == Verdict.OPEN:
            if cell.missing:
                shown = ", ".join(cell.missing[:4]) + (f" and {len(cell.missing) - 4} more" if len(cell.missing) > 4 else "")
                why = f"no numbers of {shown}"
            elif not cell.floor:
                why = "the truth under the same integrator is not there, or not far below the threshold"
            else:
                why = f"{cell.seeds} seeds: the interval is not clear of the threshold" + f" by a factor of {MARGIN:g}" * (cell.seeds < ENOUGH)
                why = f"{cell.seeds} seeds, where at least {FEWEST} are needed" if cell.seeds < FEWEST else why
            yield f"{cell.claim.title}, {COLUMNS[cell.column]}: {why}"


def tidy(table: TableOne) -> pd.DataFrame:
    """One line per criterion of a cell."""
    lines = []
    for (name, column), cell in table.cells.items():
        runs = " ".join(row["run"] for model in cell.models for system in cell.claim.systems() for row in table.of_cell(model, system))
        for m in cell.measured:
            e = m.effect
            numbers = ("", "", "") if e is None else (e.value, e.low, e.high)
            ticks = [MARKS[d[column]] if column in d else "" for d in (cell.claim.ticks, cell.claim.expected)]
            moved = [cell.verdict(factor).value for factor in (0.5, 2.0)]
            lines.append(
                (name, column, cell.model, cell.verdict().value, m.criterion.name, *numbers, m.criterion.threshold, cell.seeds, *ticks, *moved, runs)
            )
    heads = ["row", "column", "model", "verdict", "criterion", "effect", "low", "high", "threshold", "seeds", "paper", "expected"]
    return pd.DataFrame(lines, columns=[*heads, "at_half_the_threshold", "at_twice_the_threshold", "runs"])


def latex(table: TableOne) -> str:
    """A tabular for a paper; needs booktabs and amssymb."""
    marks = {Verdict.YES: r"\checkmark", Verdict.NO: r"$\times$", Verdict.OPEN: "?", Verdict.NONE: "n/a"}
    lines = [r"\begin{tabular}{l" + "c" * len(COLUMNS) + "}", r"\toprule", " & " + " & ".join(COLUMNS.values()) + r" \\", r"\midrule"]
    lines += [f"{c.title} & " + " & ".join(marks[table.cells[c.name, column].verdict()] for column in COLUMNS) + r" \\" for c in CLAIMS]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def write(table: TableOne, output: Path) -> None:
    """table1.md, table1.csv and table1.tex of a results folder."""
    files = {"table1.md": markdown(table), "table1.tex": latex(table)}
    files["table1.csv"] = tidy(table).to_csv(index=False, float_format="%.6g", lineterminator="\n")
    for name, content in files.items():
        results.write_atomically(output / name, content.encode())


def show(table: TableOne, console: Console) -> None:
    """The ticks, in a terminal."""
    view = Table(title="Table 1, measured", title_justify="left", title_style="bold", header_style="underline", box=None, padding=(0, 2, 0, 0))
    view.add_column("")
    for column in COLUMNS:
        view.add_column(column, justify="center")
    styles = {Verdict.YES: "green", Verdict.NO: "red", Verdict.OPEN: "yellow", Verdict.NONE: "dim"}
    for claim in CLAIMS:
        verdicts = [table.cells[claim.name, column].verdict() for column in COLUMNS]
        view.add_row(claim.name, *(f"[{styles[v]}]{v.value}[/]" for v in verdicts))
    console.print(view)
    if lines := [cell for cell in table.cells.values() if cell.verdict() == Verdict.OPEN]:
        console.print(
            f"? {len(lines)} undecided: `make table1` trains six seeds on all systems; results/reference/laptop/table1.md has them",
            highlight=False,
            markup=False,
        )


def explain(table: TableOne, row: str, column: str, console: Console) -> None:
    """How a cell was decided, down to its runs. Raises `UnknownName`."""
    claim = claim_called(row)
    if column not in COLUMNS:
        raise UnknownName("column", column, tuple(COLUMNS))
    cell = table.cells[row, column]
    console.print(f"{claim.title}, {COLUMNS[column]}: {cell.verdict().value}", style="bold", highlight=False)
    console.print(claim.experiment, highlight=False)
    if cell.model != column:
        console.print(f"Decided by the runs of {cell.model}, which takes velocities for momenta.", highlight=False)
    for m in cell.measured:
        console.print(
            f"{m.criterion.name}: {effect_text(m)} against {m.criterion.threshold:g}: {m.verdict(cell.margin).value}", style="bold", highlight=False
        )
        console.print(f"  {m.criterion.quantity.name}. Threshold: {m.criterion.why}.", highlight=False)
        for model, system in ((model, system) for model in (cell.model, *m.criterion.against) for system in m.criterion.systems):
            rows = table.of_cell(model, system)
            if rows and not m.lacking and (effect := of_system(table, m, model, system)) is not None:
                console.print(f"  {system}{f', {model}' * (model != cell.model)}: {interval(effect)}", highlight=False)
            for run, curves in zip(rows, table.curves(model, system), strict=True):
                alone = "" if m.lacking else number(m.criterion.quantity.values([curves])[0])
                console.print(f"    {run['run']}  {alone if curves else 'diverged in training'}", highlight=False, markup=False)
    for name, effect in table.beside(claim, cell.model):
        console.print(f"Beside it, {name}: {interval(effect)}", highlight=False)
    if cell.inapplicable:
        console.print(f"n/a: {cell.inapplicable}", style="yellow", highlight=False, markup=False)
    for line in cell.missing:
        console.print(f"missing: {line}", style="yellow", highlight=False, markup=False)
