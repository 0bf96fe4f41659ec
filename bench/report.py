"""report.html: all that a results folder shows in one file that needs no network. Derived like every other table, byte for byte."""

from html import escape
from pathlib import Path
from string import Template

from bench import published, results, symmetry, tables, ticks
from bench.claims import CLAIMS, COLUMNS
from bench.drawing import Drawing
from bench.floors import FLOORS
from bench.sheet import COSTS, ERRORS, HEADINGS, Sheet
from bench.table1 import MARKS, Cell, TableOne
from bench.ticks import effect_text, interval
from bench.verdicts import MARGIN, Verdict

PAGE = Path(__file__).with_name("report.template.html")  # style and script of the page; everything else is written here
KINDS = {Verdict.YES: "yes", Verdict.NO: "no", Verdict.OPEN: "open", Verdict.NONE: "open"}
SPOKEN = {Verdict.YES: "yes", Verdict.NO: "no", Verdict.OPEN: "undecided", Verdict.NONE: "not applicable"}


def write(table: TableOne, drawings: list[Drawing], output: Path) -> None:
    """report.html of a results folder."""
    sections = [("table1", "Table 1", _table1(table))]
    if (output / results.GRID).exists():
        sheet = Sheet(output)
        sections.append(("results", "Results", _results(sheet)))
        method = _list(tables.notes(sheet))
    else:
        method = "<p>No plain grid has been run in this folder.</p>"
    if drawings:
        sections.append(("figures", "Figures", "".join(map(_figure, drawings))))
    sections.append(("symmetry", "What symmetry was learnt", _symmetry(table)))
    if (output / results.PUBLISHED).exists():
        sections.append(("published", "Published figures", _markdown(published.markdown(published.Published(output)))))
    sections.append(("method", "Method and provenance", method))
    links = "".join(f'<a href="#{name}">{escape(title)}</a>' for name, title, _ in sections)
    body = "".join(f'<section id="{name}"><h2>{escape(title)}</h2>{content}</section>' for name, title, content in sections)
    body = body.replace(" %", "\N{NO-BREAK SPACE}%")
    page = Template(PAGE.read_text(encoding="utf-8")).substitute(name=escape(table.name), summary=escape(_summary(table)), links=links, body=body)
    results.write_atomically(output / "report.html", page.encode())


def _summary(table: TableOne) -> str:
    runs = [row for cell in table.rows.values() for row in cell.values()]
    seeds = {row["seed"] for row in runs if row["seed"] is not None}
    systems, models = ({row[part] for row in runs if row["model"] not in FLOORS} for part in ("system", "model"))
    return f"{len(runs)} runs: {len(models)} models, {len(systems)} systems, up to {len(seeds)} seeds. What each inductive bias buys, measured."


def _list(lines) -> str:
    return "<ul>" + "".join(f"<li>{_words(line)}</li>" for line in lines) + "</ul>"


def _words(text: str) -> str:
    """Text with `code` and *emphasis* as the tables write it."""
    pieces = escape(text).split("`")
    code = "".join(f"<code>{piece}</code>" if i % 2 else piece for i, piece in enumerate(pieces))
    parts = code.split("**")
    strong = "".join(f"<strong>{piece}</strong>" if i % 2 else piece for i, piece in enumerate(parts))
    parts = strong.split("*")
    return "".join(f"<em>{piece}</em>" if i % 2 and len(parts) % 2 else piece for i, piece in enumerate(parts))


# Table 1 --------------------------------------------------------------------------------------------------------------


def _table1(table: TableOne) -> str:
    heads = "".join(f'<th scope="col">{escape(title)}</th>' for title in COLUMNS.values())
    rows, evidence = [], []
    for claim in CLAIMS:
        cells = [table.cells[claim.name, column] for column in COLUMNS]
        rows.append(f'<tr><th scope="row">{escape(claim.title)}</th>{"".join(map(_tick, cells))}</tr>')
        evidence += [_evidence(table, cell) for cell in cells]
    out = "<p>Rows as in Cranmer et al. 2020, Table 1; each cell is the outcome of an experiment. ✓: the 95 % bootstrap interval over seeds and "
    out += (
        "trajectories lies at or below the threshold, ✗: above it, ?: undecided. Three to five seeds, whose interval covers less, decide only what "
    )
    out += f"is clear by a factor of {MARGIN:g}; fewer decide nothing. Choose a cell to see how it was decided, down to its runs. A dot: the paper "
    out += "says otherwise.</p>"
    out += f'<div class="scroll"><table class="ticks"><thead><tr><th></th>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    out += f'<div aria-live="polite">{"".join(evidence)}</div>'
    for title, lines in (
        ("Where the paper says otherwise", ticks.differences(table)),
        ("Where we had expected otherwise", ticks.surprises(table)),
        ("What a factor of two in the thresholds would change", ticks.sensitive(table)),
        ("Undecided", ticks.undecided(table)),
    ):
        out += f"<h3>{escape(title)}</h3>{_list(found) if (found := list(lines)) else '<p>Nothing.</p>'}"
    return out


def _name(cell: Cell) -> str:
    return f"evidence-{cell.claim.name}-{cell.column}"


def _tick(cell: Cell) -> str:
    verdict = cell.verdict()
    differs = cell.column in cell.claim.ticks and verdict.decided and verdict != MARKS[cell.claim.ticks[cell.column]]
    spoken = f"{cell.claim.title}, {COLUMNS[cell.column]}: {SPOKEN[verdict]}{', the paper says otherwise' * differs}"
    names = f'class="tick {KINDS[verdict]}{" differs" * differs}" aria-label="{escape(spoken)}"'
    return f'<td><button {names} aria-expanded="false" aria-controls="{_name(cell)}">{verdict.value}</button></td>'


def _evidence(table: TableOne, cell: Cell) -> str:
    claim, verdict = cell.claim, cell.verdict()
    out = f'<article id="{_name(cell)}" class="evidence" hidden><h3>{escape(claim.title)}, {escape(COLUMNS[cell.column])}: {verdict.value}</h3>'
    out += f"<p>{escape(claim.experiment)}</p>"
    if cell.model != cell.column:
        out += f"<p>Decided by the runs of <code>{cell.model}</code>, which takes velocities for momenta.</p>"
    lines = []
    for m in cell.measured:
        pairs = [(model, system) for model in (cell.model, *m.criterion.against) for system in m.criterion.systems]
        of_pairs = [(f"{system}, {model}", ticks.of_system(table, m, model, system)) for model, system in pairs]
        named = "".join(f'<small class="each">{escape(pair)}: {interval(effect)}</small>' for pair, effect in of_pairs if effect)
        effect = "has no such thing" if m.lacking else effect_text(m)
        heads = f"<td>{escape(m.criterion.name)}<br><small>{escape(m.criterion.quantity.name)}</small></td>"
        threshold = f"<td>{m.criterion.threshold:g}<br><small>{escape(m.criterion.why)}</small></td>"
        lines.append(f"<tr>{heads}<td>{escape(effect)}{named}</td>{threshold}<td>{m.verdict(cell.margin).value}</td></tr>")
    out += '<div class="scroll"><table><thead><tr><th>quantity</th><th>measured (interval)</th><th>threshold</th><th></th></tr></thead>'
    out += f"<tbody>{''.join(lines)}</tbody></table></div>"
    said = [f"We had expected {MARKS[claim.expected[cell.column]]}."]
    if cell.column in claim.ticks:
        said.insert(0, f"The paper says {MARKS[claim.ticks[cell.column]]}.")
    said.append(f"With thresholds half as large {cell.verdict(0.5).value}, twice as large {cell.verdict(2.0).value}.")
    out += f"<p>{' '.join(said)}</p>"
    out += "".join(f"<p>Beside it, {escape(name)}: {interval(effect)}.</p>" for name, effect in table.beside(claim, cell.model))
    out += f"<p>Not applicable: {escape(cell.inapplicable)}</p>" * bool(cell.inapplicable)
    out += "".join(f"<p>Missing: {escape(line)}</p>" for line in cell.missing)
    runs = [f"<code>{row['run']}</code>" for model in cell.models for system in claim.systems() for row in table.of_cell(model, system)]
    out += f'<details><summary>{len(runs)} runs, {cell.seeds} seeds</summary><p class="runs">{" ".join(runs)}</p></details>'
    return out + "</article>"


# results --------------------------------------------------------------------------------------------------------------


def _results(sheet: Sheet) -> str:
    seeds = len(sheet.manifest["preset"]["seeds"])
    out = f"<p>Median over {seeds} seeds, their range below it. Errors are fractions; the best model is bold. Choose a heading to sort.</p>"
    for kind, wanted in (("errors", ERRORS), ("cost", COSTS)):
        for system in sheet.systems():
            columns = sheet.columns(system, wanted)
            if not columns:
                continue
            heads = "".join(f'<th scope="col" aria-sort="none"><button>{escape(HEADINGS[c])}</button></th>' for c in columns)
            rows = []
            for title, cells, best in sheet.body(system, columns, floors=kind == "errors"):
                numbers = "".join(map(_number, cells, best))
                rows.append(f'<tr><th scope="row">{escape(title.replace("*", ""))}</th>{numbers}</tr>')
            first = '<th scope="col" aria-sort="none"><button>model</button></th>'
            caption = f"<caption>{escape(system.replace('_', ' '))}, {kind}</caption>"
            head, body = f"<thead><tr>{first}{heads}</tr></thead>", f"<tbody>{''.join(rows)}</tbody>"
            out += f'<div class="scroll"><table class="sortable">{caption}{head}{body}</table></div>'
    return out


def _number(cell, best: bool) -> str:
    # missing sorts last, what diverged just before
    value = "" if cell.median is None else repr(float(cell.median)).replace("inf", "Infinity")
    text = f"<strong>{escape(cell.text())}</strong>" if best else escape(cell.text())
    spread = f"<small>{escape(cell.range())}</small>" if cell.range() else ""
    return f'<td data-value="{value}">{text}{spread}</td>'


def _figure(made: Drawing) -> str:
    caption = f"<figcaption><strong>{escape(made.title)}.</strong> {escape(made.caption)}</figcaption>"
    return f'<figure id="figure-{made.name}"><div class="scroll">{made.inline()}</div>{caption}</figure>'


def _symmetry(table: TableOne) -> str:
    answer, numbers = symmetry.markdown(table).split("## The numbers")
    return f"{_markdown(answer)}<details><summary>The numbers</summary>{_markdown(numbers)}</details>"


def _markdown(text: str) -> str:
    """What our own pages use of Markdown: headings, paragraphs, lists and tables."""
    out, rows, items = [], [], []

    def flush() -> None:
        if rows:
            head, *body = rows
            cells = ["".join(f"<td>{_words(cell)}</td>" for cell in row) for row in body]
            heads = "".join(f'<th scope="col">{_words(cell)}</th>' for cell in head)
            body_text = "".join(f"<tr>{row}</tr>" for row in cells)
            out.append(f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{body_text}</tbody></table></div>')
        if items:
            out.append(_list(items))
        rows.clear()
        items.clear()

    for line in text.partition("\n")[2].splitlines():  # the title is the section's
        if line.startswith("|"):
            cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
            if not set(line) <= set("|-: "):
                rows.append(cells)
        elif line.startswith("* "):
            items.append(line[2:])
        else:
            flush()
            if line.startswith("## "):
                out.append(f"<h3>{_words(line[3:])}</h3>")
            elif line.startswith("# "):
                out.append(f"<h3>{_words(line[2:])}</h3>")
            elif line:
                out.append(f"<p>{_words(line)}</p>")
    flush()
    return "".join(out)
