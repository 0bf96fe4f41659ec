"""`bench run`: does what is missing of a grid, measures its speed, and derives the tables."""

import tempfile
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console

from bench import data, grid, pool, results, tables
from bench.grid import Cell
from bench.presets import Preset
from bench.progress import Progress, duration
from bench.worker import Event, Job


class Busy(RuntimeError):
    """Somebody else works in the same folder."""


class Unwritable(ValueError):
    """A results folder that cannot be written."""


def run(name: str, preset: Preset, output: Path, cache: Path, workers: int, console: Console) -> int:
    """Runs what is missing or stale, then writes the tables. 0 if all runs are there afterwards, 1 if some failed.

    Everything that can be wrong with the request is found before any training: `ResultsError`, `DataError`, `Unwritable`, `Busy`.
    """
    cells = grid.cells(preset)
    for folder in (output, cache):
        _require_writable(folder)
    states = {(cell, seed): grid.state(output, cell, seed) for cell in cells for seed in cell.seeds}
    for system in preset.systems:
        data.check(system, cells_of(cells, system)[0].get_system(), preset, cache)
    try:
        with FileLock(output / ".lock", timeout=0):
            grid.write_manifest(output, name, preset)
            failed = _work(name, states, output, cache, workers, console)
            tables.write(output)
            tables.show(output, console)
            return 1 if failed else 0
    except Timeout:
        raise Busy(f"another run is working in {output}: wait for it, or give another folder with --output") from None


def cells_of(cells: list[Cell], system: str) -> list[Cell]:
    """The cells of one system."""
    return [cell for cell in cells if cell.system == system]


def _work(name: str, states: dict, output: Path, cache: Path, workers: int, console: Console) -> dict[tuple, str]:
    """Trains, then measures. Returns what failed, by run."""
    failed: dict[tuple, str] = {}

    def jobs(kind, state: str) -> list[Job]:
        by_cell: dict[Cell, list] = {}
        for (cell, seed), s in states.items():
            if s == state:
                by_cell.setdefault(cell, []).append(seed)
        return [Job(kind, cell, tuple(seeds), output, cache) for cell, seeds in by_cell.items()]

    # the rows that take longest stand last in a preset; starting with them leaves no worker alone with a long one at the end
    todo = sorted(jobs("train", "missing") + jobs("evaluate", "evaluate"), key=lambda job: -_rank(job.cell))
    _follow(f"leastaction {name}: training and evaluation", todo, workers, output, console, failed, _count(states, ("done", "measure")))
    for (cell, seed), state in states.items():
        if state in ("missing", "evaluate") and (cell, seed) not in failed:
            states[cell, seed] = grid.state(output, cell, seed)
    todo = jobs("measure", "measure")
    _follow(f"leastaction {name}: measuring speed, one cell at a time", todo, 1, output, console, failed, 0)
    return failed


def _rank(cell: Cell) -> int:
    return -1 if cell.is_floor else cell.preset.models.index(cell.model)


def _count(states: dict, wanted: tuple[str, ...]) -> int:
    return sum(state in wanted for state in states.values())


def _follow(title: str, jobs: list[Job], workers: int, output: Path, console: Console, failed: dict, already_done: int) -> None:
    if not jobs:
        return
    compiling = 0.0
    with Progress(title, jobs, min(workers, len(jobs)), console, already_done) as progress:

        def tell(job: Job, event: Event) -> None:
            nonlocal compiling
            progress.tell(job, event)
            if event.what == "finished":
                compiling += event.value
            if event.status.startswith("failed"):
                failed[job.cell, event.seed] = event.status
                if job.kind != "measure":
                    _record_failure(output, job.cell, event.seed, event.status)

        pool.run(jobs, workers, output / "logs", tell)
    console.print(f"compiling, or loading what was compiled before: {duration(compiling)} of all processes together", highlight=False)


def _record_failure(output: Path, cell: Cell, seed: int | None, why: str) -> None:
    """A run that cannot be done is a result too: the table shows the hole, and the next `bench run` tries it again."""
    result = {"run": cell.run_id(seed), "system": cell.system, "model": cell.model, "seed": seed, "status": "failed", "why": why}
    code = {"training_code": cell.training_code, "evaluation_code": cell.evaluation_code}
    results.write(grid.folder(output, cell.run_id(seed)), result | {"configuration": {}, "metrics": {}, "speed": {}, "provenance": code})


def _require_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise Unwritable(f"{folder} cannot be written ({error.strerror}): give another folder with --output") from None
