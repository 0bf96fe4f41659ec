"""`bench pack` and `bench unpack`: a results folder as it is committed, one file a cell, and back again into one that can be worked in.

What a verdict or a page reads is kept to the last bit; what is only drawn, and what nothing reads, becomes coarse:

* results stay as they are, and so do all curves that Table 1, the page on symmetries and published figures read, energy errors at the times
  that they read, and the motion that is drawn;
* other energy and rollout errors, and evidence of runs that decide nothing, keep 9 bits behind the point: 0.1 %;
* rollout errors, and both errors of runs that no figure draws, stay at about ten times, and of these runs no motion;
* trained parameters stay of one run of each cell of the plain grid and of Table 1, the first seed that has them, in float32.

What was packed, unpacked and packed again is the same to the byte.
"""

import shutil
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console

from bench import checkpoints, derived, grid, locks, packed, results, sealed
from bench.claims import EARLY, HORIZON
from bench.run import Unwritable, require_not_reference
from bench.worker import MOTION

BITS = 9  # behind the point, of what is rounded: relative errors of up to 2⁻¹⁰
TIMES = (EARLY, 20.0, HORIZON)  # s, and the last: at which energy errors are read (claims.py, literature.py)
POINTS = 10  # in time, besides, of what no figure draws
IN_TIME = ("energy_error", "rollout_error")
ALWAYS_READ = ("time", "rollout_time", "rollout_error_of_start", "training_")  # beginnings of the names of curves that are read of every run
TABLES = ("results.csv", "runs.csv", "speed.csv", "table.md", "table1.md", "table1.csv", "table1.tex", "symmetry.md", "published.md", "published.csv")
FIRST = ("schema", "why", "diverged_at_step")  # of a result, as `results.write` orders it
OURS = (*results.MANIFESTS, *TABLES, "report.html", "figures", "runs", "logs", locks.NAME)  # what a results folder holds


@dataclass(frozen=True)
class Options:
    """Adds to a results folder that runs can be made in what a packed one holds and it lacks."""

    source: Annotated[Path, tyro.conf.Positional]
    """results folder that is read"""
    target: Annotated[Path, tyro.conf.Positional]
    """results folder that is written"""


@dataclass(frozen=True)
class PackOptions(Options):
    """Makes a packed results folder, one file a cell, of one that runs were made in. One that is there is replaced once the new one is whole."""

    reference: bool = False
    """allow a target among the committed reference results (make reference)"""


# what is kept ---------------------------------------------------------------------------------------------------------


def rounded(values: np.ndarray) -> np.ndarray:
    """float32 numbers with `BITS` bits behind the point, to the nearest, ties to even; infinities, NaN and zeros as they are."""
    bits, drop = values.astype(np.float32).view(np.uint32), 23 - BITS
    nearest = (bits + np.uint32((1 << (drop - 1)) - 1) + ((bits >> drop) & 1)) >> drop << drop
    return np.where(np.isfinite(values), nearest, bits).astype(np.uint32).view(np.float32)


def kept(curves: dict[str, np.ndarray], decides: bool, drawn: bool) -> dict[str, np.ndarray]:
    """What is kept of a run's curves. `decides`: Table 1 and the symmetries may read them; `drawn`: figures draw its errors and its motion.

    Where a rollout error has fewer times than an energy error, they are its `rollout_time`.
    """
    found = {}
    for name, values in curves.items():
        if name in IN_TIME:
            time = curves.get("rollout_time", curves["time"]) if name == "rollout_error" else curves["time"]
            frames, read = _frames(time, drawn and name == "energy_error")
            found[name] = rounded(values[..., frames])
            if name == "energy_error":
                found[name] = np.where(read, values[..., frames], found[name])
            found["time" if name == "energy_error" else "rollout_time"] = time[frames]
        elif name in MOTION:
            found |= {name: values} if drawn else {}
        elif decides or name.startswith(ALWAYS_READ):
            found.setdefault(name, values)
        else:
            found[name] = rounded(values)
    return dict(sorted(found.items()))


def _frames(time: np.ndarray, every: bool) -> tuple[np.ndarray, np.ndarray]:
    """(indices of the times that are kept, whether something reads the errors there); those that are read, and all or about `POINTS` besides."""
    count = len(time)
    read = {count - 1, *(int(np.abs(time - at).argmin()) for at in TIMES)}
    step = 1 if every or count <= 2 * POINTS else -(-count // POINTS)
    frames = np.array([i for i in range(count) if (count - 1 - i) % step == 0 or i in read])
    return frames, np.isin(frames, list(read))


def cells(source: Path) -> dict[str, packed.Cell]:
    """All that is kept of a results folder, by name of the cell's file. Raises `ResultsError` where runs are missing or damaged."""
    rows, holes = grid.read_all(source)
    if holes:
        run, why = next(iter(holes.items()))
        raise results.ResultsError(f"{source} is not whole: {len(holes)} of its runs have no results, such as {run} ({why})")
    named = [grid.read_manifest(source, file) for file in grid.manifests(source, (results.GRID, results.TABLE1))]
    decide = {run for manifest in named for run in manifest["runs"]}
    found: dict[str, packed.Cell] = {}
    for row in sorted(rows, key=lambda row: (row["system"], row["model"], row["seed"] or 0, row["run"])):
        where, run = grid.folder(source, row["run"]), row["run"]
        cell = found.setdefault(packed.path_of(where).name, packed.Cell({}, {}, {}))
        content = {name: row[name] for name in FIRST} | {name: value for name, value in row.items() if name not in ("sha256", "curves")}
        if row["status"] not in results.LOST:
            drawn = run in decide and row["system"] in named[-1]["preset"]["systems"]
            cell.curves[run] = kept(results.curves(where, row), run in decide, drawn)
            content["curves"] = {"file": results.CURVES, "sha256": results.digest(cell.curves[run])}
        cell.results[run] = sealed.stamped(content)
        trained = run in decide and row["status"] == "finished" and row["seed"] is not None
        if trained and not cell.parameters and (leaves := _parameters(where)) is not None:
            cell.parameters[run] = leaves
    return found


def _parameters(run: Path) -> packed.Arrays | None:
    """Those of a run; None where there are none. Raises `ResultsError` where they are damaged."""
    try:
        return checkpoints.parameters(run)
    except sealed.Damaged as error:
        raise results.ResultsError(f"{error}: remove {run}, and `bench run` makes it again") from error


# commands -------------------------------------------------------------------------------------------------------------


def _require_replaceable(target: Path) -> None:
    """Raises `Unwritable` unless a folder is not there, empty, or a packed one with nothing else in it."""
    if not target.exists() and not target.is_symlink():
        return
    if target.is_symlink() or not target.is_dir():
        raise Unwritable(f"{target} is no folder: give another")
    strangers = [path for path in target.iterdir() if path.name not in OURS]
    runs = target / "runs"
    strangers += [path for path in (runs.iterdir() if runs.is_dir() else ()) if path.suffix != packed.SUFFIX]
    if strangers:
        raise Unwritable(f"{target} would be replaced, and {strangers[0]} is no part of packed results: move it away, or give another folder")


def pack(options: PackOptions, console: Console) -> int:
    """Writes `target`, whole or not at all, with all that is derived from it. 0, or raises `Unwritable`, `ResultsError`, `Busy`."""
    source, target = options.source, options.target
    require_not_reference(target, options.reference)
    if source.resolve() == target.resolve():
        raise Unwritable(f"{target} is what is read: give another folder to be written")
    grid.read_manifest(source, grid.manifests(source)[0])  # there is something to be packed
    with nullcontext() if packed.is_packed(source) else locks.held(source):
        sealed.recover(target)
        _require_replaceable(target)
        found = cells(source)
        if not packed.is_packed(source):
            derived.write(source)

        def fill(partial: Path) -> None:
            for file in grid.manifests(source):
                shutil.copyfile(source / file, partial / file)
            for name, cell in found.items():
                packed.write(partial / "runs" / name, cell)
            derived.write(partial)
            there = [] if packed.is_packed(source) else [name for name in TABLES if (source / name).exists() and (partial / name).exists()]
            if changed := [name for name in there if (source / name).read_bytes() != (partial / name).read_bytes()]:
                raise results.ResultsError(f"packing {source} would change {', '.join(changed)}: something is read that bench/pack.py does not keep")

        sealed.replace(target, fill)
    _tell(target, found, console)
    return 0


def _tell(target: Path, found: dict[str, packed.Cell], console: Console) -> None:
    size = sum(path.stat().st_size for path in (target / "runs").iterdir()) / 1e6
    runs = sum(len(cell.results) for cell in found.values())
    arrays = [leaf.nbytes for cell in found.values() for leaves in cell.parameters.values() for leaf in leaves.values()]
    trained = sum(bool(cell.parameters) for cell in found.values())
    said = f"{target}: {runs} runs in {len(found)} files, {size:.1f} MB; parameters of {trained} cells, {sum(arrays) / 1e6:.1f} MB before compression"
    console.print(said, highlight=False, soft_wrap=True)


def unpack(options: Options, console: Console) -> int:
    """Adds to `target` the runs of a packed folder that aren't there, parameters as far as they were kept. What is damaged is said, and left out.

    0, or 1 if something was damaged. Raises `Unwritable`, `ResultsError`, `Busy`.
    """
    source, target = options.source, options.target
    require_not_reference(target)
    if packed.is_packed(target):
        raise Unwritable(f"{target} holds packed results: give a folder that runs can be added to")
    rows, holes = grid.read_all(source)
    with locks.held(target):
        for file in grid.manifests(source):
            if not (target / file).exists():
                sealed.write_atomically(target / file, (source / file).read_bytes())
        added = sum(_unpack(grid.folder(source, row["run"]), row, grid.folder(target, row["run"])) for row in rows)
    console.print(f"{target}: {added} runs added, {len(rows) - added} were there", highlight=False, soft_wrap=True)
    damaged = list(dict.fromkeys(why for why in holes.values() if why.startswith("damaged")))
    for why in damaged:
        console.print(why, highlight=False, markup=False, soft_wrap=True)
    return 1 if damaged else 0


def _unpack(packed_run: Path, row: dict, folder: Path) -> bool:
    """Writes a run's folder, its result last; whether it wasn't there."""
    if (folder / results.RESULT).exists():
        return False
    curves = None if row["status"] in results.LOST else results.curves(packed_run, row)
    leaves = checkpoints.parameters(packed_run)
    if curves is not None and leaves is not None and not (folder / results.PARAMETERS).exists():
        history = {name.removeprefix("training_"): values.tolist() for name, values in curves.items() if name.startswith("training_")}
        notes = {"history": history, "diverged_at": row["diverged_at_step"], "validation_loss": row["metrics"]["validation_loss"]}
        notes |= {name: row["provenance"][name] for name in ("resumed_at", "attempt")}
        checkpoints.save(folder / results.PARAMETERS, leaves, sealed.plain(notes), row["run"])
    results.write(folder, {name: value for name, value in row.items() if name not in ("sha256", "curves")}, curves)
    return True
