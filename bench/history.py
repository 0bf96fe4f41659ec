"""How speed changed from one accepted baseline to the next: a line per figure in a committed CSV, and a figure of it."""

import time
from pathlib import Path

import pandas as pd

from bench import identity, results
from bench.gate import Figures
from bench.times import GateError

HISTORY = Path("results/reference/perf_history.csv")
COLUMNS = ["date", "commit", "jax", "machine", "benchmark", "figure", "value"]


def add(figures: Figures, seconds: dict[str, float], version: str, machine: str) -> None:
    """Adds a baseline, and draws the history again."""
    stamp = [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), identity.git("describe", "--always", "--dirty") or "none", version, machine]
    lines = [
        [*stamp, name, figure, value] for name in figures for figure, value in (*figures[name].items(), ("seconds", float(f"{seconds[name]:.4g}")))
    ]
    new = pd.DataFrame(lines, columns=COLUMNS).astype({"value": object})
    table = pd.concat([_read(), new]) if HISTORY.exists() else new
    results.write_atomically(HISTORY, table.to_csv(index=False, lineterminator="\n").encode())
    draw(table.astype({"value": float}), HISTORY.with_suffix(".svg"))


def _read() -> pd.DataFrame:
    try:
        table = pd.read_csv(HISTORY, dtype={"value": object})
    except (OSError, ValueError) as error:
        raise GateError(f"{HISTORY} cannot be read ({error}): get it back with git checkout") from error
    if list(table.columns) != COLUMNS:
        raise GateError(f"{HISTORY} has other columns than {', '.join(COLUMNS)}: get it back with git checkout")
    return table


def draw(table: pd.DataFrame, path: Path) -> None:
    """Each figure over its value in the first baseline of the same jax: a thin line a benchmark, a thick one their median, a colour a version."""
    from matplotlib import ticker

    from bench import drawing
    from bench.drawing import sns

    shown = {"seconds": "time, on its own machine", "flops": "operations", "equations": "equations of the program", "temporary_bytes": "memory"}
    dates, versions = (list(dict.fromkeys(table[column])) for column in ("date", "jax"))
    commits = dict(zip(table["date"], table["commit"], strict=True))
    labels = [f"{commits[date]}\n{date[:10]}" for date in dates]
    with drawing.drawn(1, len(shown), size=(3.6, 3.4)) as made:
        for axis, (figure, title) in zip(made.axes[0], shown.items(), strict=True):
            for version, color in zip(versions, sns.color_palette("colorblind", len(versions)), strict=True):
                chosen = table[(table["figure"] == figure) & (table["jax"] == version)]
                values = chosen.pivot_table(index="date", columns="benchmark", values="value", sort=False)
                relative, at = values / values.bfill().iloc[0], [dates.index(date) for date in values.index]
                axis.plot(at, relative.to_numpy(), color=color, alpha=0.3, lw=0.8, marker=".", ms=3)
                axis.plot(at, relative.median(axis=1).to_numpy(), color=color, lw=2.2, marker="o", ms=5, label=f"jax {version}")
            axis.set(title=title, yscale="log")
            axis.set_xticks(range(len(dates)), labels, fontsize=8)
            axis.yaxis.set_major_formatter(ticker.FuncFormatter(lambda y, _: f"{y:g}"))
            axis.yaxis.set_minor_formatter(ticker.NullFormatter())
        made.axes[0, 0].set_ylabel("over the first baseline")
        made.axes[0, 0].legend()
    words = "Each benchmark over its value in the first baseline of the same version of jax that has it: a thin line; their median: a thick one."
    drawing.write(made.finished("perf_history", "How speed changed", words, words), path)
