"""`bench tune`: the same small search for every model, over the learning rate alone, on validation data."""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

from bench import grid, locks, pool, results
from bench.presets import Preset
from bench.progress import Progress
from bench.worker import REFUSED, Event, Job

RATES = (2.5e-3, 5e-3, 1e-2, 2e-2, 4e-2, 8e-2)
SEED = 1000  # not one of the benchmark's


def tune(preset: Preset, output: Path, cache: Path, workers: int, console: Console) -> int:
    """Trains every model on every system with every rate, and writes tuning.csv: criterion by trial, and which rate each model should have.

    The criterion is the error one frame ahead on validation trajectories, a geometric mean over systems; a trial that diverges or fails counts
    as infinite. 1 if some failed.
    """
    output.mkdir(parents=True, exist_ok=True)
    jobs = [
        Job("tune", grid.Cell(replace(preset, learning_rate=rate, seeds=(SEED,)), system, model), (SEED,), output, cache)
        for model in reversed(preset.models)
        for system in preset.systems
        for rate in RATES
        if not grid.Cell(preset, system, model).inapplicable
    ]
    values: dict[tuple, float] = {}
    failed = []
    with Progress("tuning", jobs, min(workers, len(jobs)), console) as progress:

        def tell(job: Job, event: Event) -> None:
            progress.tell(job, event)
            if event.what == "value":
                values[job.cell.model, job.cell.preset.learning_rate, job.cell.system] = event.value
            elif event.what == "done" and event.status in (*results.LOST, REFUSED):
                failed.append(f"{job.cell.system} x {job.cell.model} at {job.cell.preset.learning_rate}: {event.status}: {event.why}")

        with locks.held(output):
            pool.run(jobs, workers, output / "logs", tell)
    write(output / "tuning.csv", preset, values)
    for line in failed:
        console.print(line, style="red", markup=False)
    for model, rate in chosen(preset, values).items():
        edge = " (at the edge of the search: widen RATES)" if rate in (RATES[0], RATES[-1]) else ""
        console.print(f"{model}: " + ("every trial diverged" if rate is None else f"learning_rate = {rate:g}{edge}"), highlight=False)
    console.print(f"Trials: {output / 'tuning.csv'}. Put the chosen rates into the models' files as defaults.", highlight=False)
    return 1 if failed else 0


def criterion(preset: Preset, values: dict, model: str, rate: float) -> float:
    """Geometric mean over the systems to which the model applies; infinite if a trial has no finite value, or if there is none."""
    asked = [system for system in preset.systems if not grid.Cell(preset, system, model).inapplicable]
    errors = np.array([values.get((model, rate, system), np.inf) for system in asked])
    return float(np.exp(np.log(errors).mean())) if asked and np.isfinite(errors).all() else float("inf")


def chosen(preset: Preset, values: dict) -> dict[str, float | None]:
    """The rate with the least criterion of each model; None where no trial has a finite one."""
    best = {model: min(RATES, key=lambda rate: criterion(preset, values, model, rate)) for model in preset.models}
    return {model: rate if criterion(preset, values, model, rate) < float("inf") else None for model, rate in best.items()}


def write(path: Path, preset: Preset, values: dict) -> None:
    """One line per trial: model, learning rate, error on each system, their geometric mean, chosen or not."""
    best = chosen(preset, values)
    lines = defaultdict(list)
    for model in preset.models:
        for rate in RATES:
            lines["model"].append(model)
            lines["learning_rate"].append(rate)
            for system in preset.systems:
                lines[system].append(np.nan if grid.Cell(preset, system, model).inapplicable else values.get((model, rate, system), np.inf))
            lines["geometric_mean"].append(criterion(preset, values, model, rate))
            lines["chosen"].append(rate == best[model])
    results.write_atomically(path, pd.DataFrame(lines).to_csv(index=False, float_format="%.4g", lineterminator="\n").encode())
