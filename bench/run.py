"""`bench run`: does what is missing of a grid, measures its speed, and derives the tables."""

import re
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from bench import derived, grid, identity, locks, packed, parts, pool, published, results, table1, tables, ticks
from bench.grid import Cell
from bench.presets import Preset, require_signal
from bench.progress import Progress, duration
from bench.worker import REFUSED, Event, Job

REFERENCE = identity.ROOT / "results" / "reference"  # committed; written by `make reference` alone


class Unwritable(ValueError):
    """A results folder that cannot be written, or must not be."""


def run(name: str, preset: Preset, output: Path, cache: Path, workers: int, console: Console) -> int:
    """Runs what is missing or stale, then writes the tables. 0 if all runs are there afterwards, 1 if some failed.

    Everything that can be wrong with the request is found before any training: `ResultsError` for what a newer version wrote, `Unwritable`, `Busy`.
    A damaged result is said aloud, set aside and made again. A run that diverged is there: it is a result.
    """
    with _held(output, cache):
        _drop_of_others(output, preset, console)
        failed = _fill(name, preset, grid.cells(preset), results.GRID, output, cache, workers, console)
        holes, table = derived.write(output)
        tables.show(output, console)
        ticks.show(table, console)
        console.print(f"Report: {output / 'report.html'}", highlight=False, soft_wrap=True)
        return 1 if failed or holes else 0


def run_table1(name: str, preset: Preset, most_seeds: int, output: Path, cache: Path, workers: int, console: Console) -> int:
    """Runs what is missing of Table 1, up to `most_seeds` seeds of cells that more may decide, and writes it. 0 if all runs are there, else 1.

    Raises as `run`.
    """
    with _held(output, cache):
        seeds = {(cell.system, cell.model): len(preset.seeds) for cell in table1.cells(preset)}
        while True:
            cells = [Cell(replace(preset, seeds=_more(preset.seeds, count)), system, model) for (system, model), count in seeds.items()]
            failed = _fill(name, preset, cells, results.TABLE1, output, cache, workers, console)
            table = table1.TableOne(output)
            more = {cell: most_seeds for cell in table1.straddling(table) if seeds[cell] < most_seeds}
            if failed or not more:
                break
            console.print(f"{len(more)} cells are taken up to {most_seeds} seeds, since their intervals straddle a threshold", highlight=False)
            seeds |= more
        _, table = derived.write(output)
        ticks.show(table, console)
        for line in ticks.undecided(table):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        console.print(f"How each cell was decided: {output / 'table1.md'}, {output / 'report.html'}", highlight=False, soft_wrap=True)
        return 1 if failed else 0


def run_published(name: str, preset: Preset, output: Path, cache: Path, workers: int, console: Console) -> int:
    """Runs what is missing beside published figures and of the LNN's recipe, and writes both tables. 0 if all runs are there, else 1.

    Raises as `run`.
    """
    with _held(output, cache):
        failed = _fill(name, preset, published.cells(preset), results.PUBLISHED, output, cache, workers, console)
        derived.write(output)
        published.show(published.Published(output), console)
        console.print(f"All of it: {output / 'published.md'}", highlight=False, soft_wrap=True)
        return 1 if failed else 0


@contextmanager
def _held(output: Path, cache: Path):
    """A results folder that may be written, for this process alone. Raises `Unwritable`, `Busy`."""
    require_not_reference(output)
    if packed.is_packed(output):
        raise Unwritable(f"{output} holds packed results: python -m bench unpack {output} FOLDER makes a folder that runs can be added to")
    for folder in (output, cache):
        _require_writable(folder)
    with locks.held(output):
        yield


def _fill(name: str, preset: Preset, cells: list[Cell], file: str, output: Path, cache: Path, workers: int, console: Console) -> dict[tuple, str]:
    """Names the runs of some cells in a manifest, and does what is missing of them; speed is measured of those of the grid.

    Returns why, by run, of those that are lost. Raises `Unlearnable` before anything is written.
    """
    for cell in cells:
        if not cell.is_floor:  # Table 1 asks for models that its preset does not name
            require_signal(cell.model, cell.preset.signal)
    states = _states(output, cells, console, file)
    grid.write_manifest(output, name, preset, cells, file)
    return _work(name, states, output, cache, workers, console, speed=file == results.GRID)


def _more(seeds: tuple[int, ...], count: int) -> tuple[int, ...]:
    """The seeds, and the next ones up to a number of them."""
    return (*seeds, *range(max(seeds) + 1, max(seeds) + 1 + count - len(seeds)))


def _drop_of_others(output: Path, now: Preset, console: Console) -> None:
    """Forgets which runs Table 1 and published figures asked for where they would have other names by now, with other code or another preset.

    The runs themselves stay. Raises `ResultsError` for what a newer version wrote.
    """
    for file, cells in ((results.TABLE1, table1.cells), (results.PUBLISHED, published.cells)):
        path = output / file
        if not path.exists():
            continue
        again = f"python -m bench {path.stem}"
        try:
            named = set(grid.read_manifest(output, file)["runs"])
        except results.DamagedResult as error:
            aside = results.set_aside(path)
            console.print(f"{error} (kept as {aside.name}; {again} makes it again)", highlight=False, markup=False, soft_wrap=True)
            continue
        seeds = {int(seed) for run in named for seed in re.findall(r"-s(\d+)-", run)}
        known = {cell.run_id(seed): cell for cell in cells(now) for seed in ((None,) if cell.is_floor else seeds)}
        if not (named <= known.keys() and all(_is_fresh(output, run, known[run]) for run in named)):
            path.unlink()
            console.print(f"{path} was of other code or another preset: {again} makes it again", highlight=False, markup=False, soft_wrap=True)


def _is_fresh(output: Path, run: str, cell: Cell) -> bool:
    """Whether a run is not there, or damaged and to be made again, or was evaluated by this code."""
    try:
        return not parts.missing(results.read(grid.folder(output, run))["provenance"], cell)
    except results.ResultsError:
        return True


def _states(output: Path, cells: list[Cell], console: Console, file: str) -> dict[tuple[Cell, int | None], str]:
    """State of each run. Raises `ResultsError` for what a newer version wrote; only then is what is damaged set aside, and said."""
    states, damaged = {}, {}
    if (output / file).exists():
        try:
            grid.read_manifest(output, file)
        except results.DamagedResult as error:
            damaged[None] = output / file, error
    for run in ((cell, seed) for cell in cells for seed in cell.seeds):
        try:
            states[run] = grid.state(output, *run)
        except results.DamagedResult as error:
            states[run] = ""  # it keeps its place in the order
            damaged[run] = grid.folder(output, run[0].run_id(run[1])) / results.RESULT, error
    for run, (path, error) in damaged.items():
        aside = results.set_aside(path)
        console.print(f"{error} (kept as {aside.name})", highlight=False, markup=False, soft_wrap=True)
        if run is not None:
            states[run] = grid.state(output, *run)
    return states


def require_not_reference(output: Path, allowed: bool = False) -> None:
    """Raises `Unwritable` if a folder lies among the committed results and it isn't those that are meant."""
    if not allowed and output.resolve().is_relative_to(REFERENCE.resolve()):
        raise Unwritable(f"{output} holds committed reference results: give another folder with --output, or accept new ones with make reference")


def _work(name: str, states: dict, output: Path, cache: Path, workers: int, console: Console, speed: bool) -> dict[tuple, str]:
    """Trains, then measures, if `speed` is wanted. Returns why, by run, of those that are lost."""
    failed: dict[tuple, str] = {}

    def jobs(kind, wanted: tuple[str, ...]) -> list[Job]:
        by_cell: dict[Cell, list] = {}
        for (cell, seed), s in states.items():
            if s in wanted:
                by_cell.setdefault(cell, []).append(seed)
        return [Job(kind, cell, tuple(seeds), output, cache) for cell, seeds in by_cell.items()]

    # the rows that take longest stand last in a preset; starting with them leaves no worker alone with a long one at the end
    todo = sorted(jobs("run", ("missing", "evaluate")), key=lambda job: -_rank(job.cell))
    _follow(f"leastaction {name}: training and evaluation", todo, workers, output, console, failed, _count(states, ("done", "measure")))
    for (cell, seed), state in states.items():
        if state in ("missing", "evaluate") and (cell, seed) not in failed:
            states[cell, seed] = grid.state(output, cell, seed)
    todo = jobs("measure", ("measure",)) if speed else []
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
            if event.what == "done" and event.status in (*results.LOST, REFUSED):
                failed[job.cell, event.seed] = event.why
                if job.kind == "run" and event.status != REFUSED:  # nothing was run: what is there stays as it is
                    _record_loss(output, job.cell, event)

        pool.run(jobs, workers, output / "logs", tell)
    console.print(f"compiling, or loading what was compiled before: {duration(compiling)} of all processes together", highlight=False)


def _record_loss(output: Path, cell: Cell, event: Event) -> None:
    """A run that cannot be done is a result too: the table shows the hole, and the next `bench run` tries it again.

    One that was finished before something else went wrong stays so, and what was measured of an older version stays measured.
    """
    run = cell.run_id(event.seed)
    where = grid.folder(output, run)
    speed = {}
    with suppress(results.ResultsError):  # there is none, or none that is whole
        if grid.state(output, cell, event.seed) in ("measure", "done"):
            return
        speed = results.read(where)["speed"]
    result = {"run": run, "system": cell.system, "model": cell.model, "seed": event.seed, "status": event.status, "why": event.why}
    results.write(where, result | {"configuration": {}, "metrics": {}, "speed": speed, "provenance": cell.code})


def _require_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise Unwritable(f"{folder} cannot be written ({error.strerror}): give another folder with --output") from None
