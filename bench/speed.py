"""`bench speed`: what models and operators cost, and how near that is to what the machine can do."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from bench import pool, results
from bench.presets import PRESETS
from bench.sheet import number
from systems._rows import UnknownName


@dataclass(frozen=True)
class Options:
    """Times every model on every system, alone on one thread; and operators against the published form."""

    systems: tuple[str, ...] = PRESETS["laptop"].systems
    """rows of the folder systems/"""
    models: tuple[str, ...] = PRESETS["laptop"].models
    """rows of the folder models/"""
    widths: tuple[int, ...] = (32, 128)
    """of hidden layers, beside each model's own"""
    batches: tuple[int, ...] = (32, 512)
    """states a step, beside 128"""
    sites: tuple[int, ...] = (256, 1024, 4096)
    """of rings, beside the ring that is trained on"""
    output: Path = Path("results/latest/speed")
    """where speed.csv, side_by_side.csv, speed.md and speed.svg go"""

    def __post_init__(self):
        import models
        import systems

        for kind, given, rows in (("system", self.systems, systems.names()), ("model", self.models, models.names())):
            for name in given:
                if name not in rows:
                    raise UnknownName(kind, name, rows)
        for name, least in (("widths", 1), ("batches", 1), ("sites", 3)):
            if any(value < least for value in getattr(self, name)):
                raise ValueError(f"{name} is {' '.join(map(str, getattr(self, name)))}: give whole numbers from {least}")


@dataclass(frozen=True)
class Variant:
    """A cell at another size; None: as `make bench` has it."""

    system: str
    model: str
    width: int | None = None
    batch: int | None = None
    sites: int | None = None


def variants(options: Options) -> list[Variant]:
    """Every cell as it is, then along one size at a time."""
    import models
    import systems

    cells = [(system, model) for system in options.systems for model in options.models if not models.get(model).applies(systems.get(system))]
    rows = [Variant(*cell) for cell in cells]
    rows += [Variant(*cell, width=width) for width in options.widths for cell in cells]
    rows += [Variant(*cell, batch=batch) for batch in options.batches for cell in cells]
    rings = [cell for cell in cells if systems.get(cell[0]).spec.lattice]
    return rows + [Variant(*cell, batch=sites, sites=sites) for sites in options.sites for cell in rings]  # a step is one ring


def run(options: Options, cache: Path, console: Console) -> int:
    """Measures, and writes tables and figure. 0; raises what goes wrong."""
    rows: list[dict] = []
    side: list[dict] = []
    total = len(variants(options))
    options.output.mkdir(parents=True, exist_ok=True)
    try:
        for kind, value in pool.alone("bench.speed", "measure", (options, cache), cache, options.output / "speed.log"):
            if kind == "variant":
                rows.append(value)
                size = ", ".join(f"{name} {value[name]}" for name in ("width", "batch", "sites") if value[name])
                console.print(f"[{len(rows)}/{total}] {value['model']} on {value['system']} {size}", highlight=False)
            else:
                side.append(value)
                console.print(f"{value['what']}: {number(value['value'])} {value['unit']}", highlight=False, soft_wrap=True)
    finally:  # what was measured before an interruption is worth having
        write(rows, side, options.output)
    console.print(f"Tables and figure: {options.output / 'speed.md'}", highlight=False, soft_wrap=True)
    return 0


# In a process of its own ------------------------------------------------------------------------------------------


def measure(options: Options, cache: Path) -> Iterator[tuple[str, dict]]:
    """("variant", costs) of each variant, then ("side", row) of each comparison."""
    from bench.measure import matmul_rate
    from bench.side_by_side import side_by_side

    yield from (("side", row) for row in side_by_side(cache))
    for variant in variants(options):
        yield "variant", {**variant.__dict__, **costs(variant, matmul_rate())}


def costs(variant: Variant, rate: float) -> dict[str, Any]:
    """Speeds of `bench.measure.speed`, and: matmul_share of the machine's own rate, optimizer_share of a step's time."""
    import jax

    import models
    import systems
    from bench import cases, measure
    from bench.evaluate import Evaluator
    from bench.train import Trainer, parameters

    preset = replace(PRESETS["laptop"], batch=variant.batch or PRESETS["laptop"].batch)
    model, physics = models.get(variant.model), systems.get(variant.system)
    data = cases.drawn(physics, preset, variant.sites)
    trainer = Trainer(cases.with_width(model, variant.width) if variant.width else model, physics, data, preset)
    speed = measure.speed(trainer, Evaluator(physics, data), 0)
    start: Any = trainer.start(0)
    learner, state, _ = start

    def update(carry, step):
        learner, state = carry
        change, state = trainer.optimizer.update(learner, state, learner, step=step)
        return (jax.tree.map(lambda a, b: a + b, learner, change), state), None

    updates = jax.jit(lambda learner, state: jax.lax.scan(update, (learner, state), jax.numpy.arange(measure.STEPS))[0])
    optimizer = measure.fastest(lambda: updates(learner, state)) / measure.STEPS
    jax.clear_caches()
    return speed | {
        "matmul_share": speed["flops_per_step"] * speed["steps_per_second"] / rate,
        "optimizer_share": optimizer * speed["steps_per_second"],
        "parameters": parameters(learner),
        "device": jax.devices()[0].device_kind,
    }


# Tables and figure ------------------------------------------------------------------------------------------------

COLUMNS = {
    "compile_seconds": "compiling [s]",
    "steps_per_second": "steps/s",
    "samples_per_second": "samples/s",
    "rollout_states_per_second": "rollout states/s",
    "flops_per_step": "flop/step",
    "matmul_share": "share of product rate",
    "optimizer_share": "optimiser's share",
    "temporary_bytes": "memory [B]",
}


def write(rows: list[dict], side: list[dict], output: Path) -> None:
    """speed.csv, side_by_side.csv, speed.md, speed.svg."""
    from bench.times import machine

    table, comparisons = pd.DataFrame(rows), pd.DataFrame(side)
    for name, frame in (("speed.csv", table), ("side_by_side.csv", comparisons)):
        results.write_atomically(output / name, frame.to_csv(index=False, lineterminator="\n", float_format="%.5g").encode())
    device = rows[0]["device"] if rows else "cpu"
    where = f"One thread of {machine()}" if device == "cpu" else f"{device} in {machine()}"
    lines = ["# Speed", "", f"{where}; synchronised, warm, the fastest of several, nothing beside it."]
    lines += [
        "Of a loss with two branches the operations of the dearer one are counted: for the LNN off the ring, that of the last quarter of a training."
    ]
    lines += ["Its share of the product rate is therefore an upper bound."]
    if device == "cpu":
        lines += ["Not measured, for want of one: the same on a GPU, and the `paper` preset there."]
    lines += ["", "## Side by side", ""]
    lines += ["In one process, the two sides in turn.", "", "| | |", "|---|---:|"]
    lines += [f"| {r['what']} | {number(r['value'])} {r['unit']} |" for r in side]
    for title, size in (
        ("Every model on every system", None),
        ("Against width", "width"),
        ("Against batch", "batch"),
        ("Against sites of the ring", "sites"),
    ):
        chosen = [r for r in rows if _along(r) == size]
        if not chosen:
            continue
        lines += ["", f"## {title}", "", f"| | {f'{size} | ' if size else ''}" + " | ".join(COLUMNS.values()) + " |"]
        lines += ["|---|" + "---:|" * (len(COLUMNS) + bool(size))]
        for r in chosen:
            cells = ([str(r[size])] if size else []) + [number(r[c]) for c in COLUMNS]
            lines.append(f"| {r['model']} on {r['system']} | " + " | ".join(cells) + " |")
    results.write_atomically(output / "speed.md", ("\n".join(lines) + "\n").encode())
    if rows:
        draw(rows, output / "speed.svg")


def _along(row: dict) -> str | None:
    return "sites" if row["sites"] else "width" if row["width"] else "batch" if row["batch"] else None


def draw(rows: list[dict], path: Path) -> None:
    """Steps a second against width, batch and sites, and share of the product rate: a line a model, on the first system that has each."""
    from matplotlib import ticker

    from bench import drawing
    from bench.drawing import colour
    from models import get

    systems = list(dict.fromkeys(r["system"] for r in rows))
    models = list(dict.fromkeys(r["model"] for r in rows))
    metrics = {"steps/s": "steps_per_second", "share of the machine's product rate": "matmul_share"}
    sizes = [size for size in ("width", "batch", "sites") if any(_along(r) == size for r in rows)]
    if not sizes:
        return
    with drawing.drawn(len(metrics), len(sizes), size=(4.6, 3.6)) as made:
        for row, (title, metric) in zip(made.axes, metrics.items(), strict=True):
            for axis, size in zip(row, sizes, strict=True):
                system = next(s for s in systems if any(r["system"] == s and _along(r) == size for r in rows))
                for model in models:
                    shape = get(model).settings.shape
                    own = {"width": shape.width, "batch": PRESETS["laptop"].batch, "sites": None}[size]
                    mine = [r for r in rows if (r["system"], r["model"]) == (system, model)]
                    points = [(r[size], r[metric]) for r in mine if _along(r) == size] + [(own, r[metric]) for r in mine if _along(r) is None and own]
                    axis.plot(*zip(*sorted(points), strict=True), marker="o", ms=4, lw=1.6, color=colour(model), label=model)
                along = "sites of the ring, one ring a step" if size == "sites" else size
                axis.set(xscale="log", xlabel=along, title=system.replace("_", " "))
                if metric == "matmul_share":
                    axis.set_ylim(0, 1)
                else:
                    axis.set_yscale("log")
                    axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
                    axis.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
                ticks = sorted({int(x) for line in axis.lines for x in np.atleast_1d(line.get_xdata())})
                axis.set_xticks(ticks, ticks)
                axis.minorticks_off()
            row[0].set_ylabel(title)
        made.legend(columns=7)
    words = "Steps a second, and the share of the machine's own rate of matrix products, against width, batch and number of sites."
    drawing.write(made.finished("speed", "What a training step costs", words, words), path)
