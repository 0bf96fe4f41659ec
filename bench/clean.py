"""`bench clean`: removes what can be made again, and nothing else: never committed results, never what a link leads to."""

import importlib.util
import os
import re
import shutil
import sys
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

import systems
from bench import cached, grid, locks, results, sealed
from bench.locks import Busy
from bench.presets import PRESETS

DATA_SET = re.compile(r"([a-z][a-z0-9_]*-[0-9a-f]{16})(\.making)?")  # and the folder of its lock
RUNS = "runs"  # folder of a results folder
ZSTD_IN_USE = sys.version_info >= (3, 14) or importlib.util.find_spec("zstandard") is not None  # then JAX packs by it, else by zlib
LINKS = "links (what they lead to stays)"


@dataclass(frozen=True)
class Options:
    """Removes what can be made again and nothing needs any more: what interrupted writes left, damaged files that were set aside, runs that no
    grid.json names, checkpoints of finished runs, and data sets that no preset asks for. Committed results are never touched, links not followed."""

    everything: bool = False
    """also all of results/latest, all data sets and all compiled programs"""
    dry_run: bool = False
    """say what would be removed, and remove nothing"""


def printable(line: str) -> str:
    """A line in which nothing moves the cursor: names of files may hold anything."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)


def is_folder(path: Path) -> bool:
    """Whether a path is a folder itself, and no link to one."""
    return os.path.isdir(path) and not os.path.islink(path)


def is_file(path: Path) -> bool:
    """Whether a path is a file itself, and no link to one."""
    return os.path.isfile(path) and not os.path.islink(path)


def walk(folder: Path, unreadable: Callable[[OSError], object] | None = None) -> Iterator[Path]:
    """All that lies in a folder, at any depth, each folder before what is in it. Links in it are named and not followed."""
    for where, folders, files in os.walk(folder, onerror=unreadable):
        folders.sort()
        yield from (Path(where, name) for name in (*folders, *sorted(files)))


def _cleaned(root: Path) -> list[Path]:
    """The folders in which anything may be removed at all."""
    return [] if os.path.islink(root) else [folder for folder in (root / "latest", root / "cache") if is_folder(folder)]


def orphans(root: Path) -> dict[Path, str]:
    """What nothing needs any more in `results`, and of which kind it is; nothing that lies in a folder which is itself named."""
    found: dict[Path, str] = {}
    named: dict[Path, set[str] | None] = {}
    asked: set[str] | None = None
    for folder in _cleaned(root):
        for path in walk(folder):
            above, name = path.parent, path.name
            if any(parent in found for parent in path.parents):
                continue
            if name.startswith(".") and name.endswith(sealed.PARTIAL):
                found[path] = "interrupted writes"
            elif name.endswith(".damaged"):
                found[path] = "damaged files set aside"
            elif above.name == RUNS and results.RUN_NAME.fullmatch(name):
                output = above.parent
                if output not in named:
                    named[output] = _named(output)
                runs = named[output]
                if runs is not None and name not in runs:
                    found[path] = "runs that no grid.json names"
            elif name == results.CHECKPOINTS and above.parent.name == RUNS and _is_done(above):
                found[path] = "checkpoints of finished runs"
            elif above == root / "cache" and path.suffix in (".npz", ".lock"):
                found[path] = "data sets of an older layout"
            elif above == root / "cache" / "xla" and not unpacks(path):
                found[path] = "damaged compiled programs"
            elif above == root / "cache" / "data" and (data_set := DATA_SET.fullmatch(name)):
                asked = _asked() if asked is None else asked
                if data_set[1] not in asked:
                    found[path] = "data sets that no preset asks for"
    return found


def unpacks(program: Path) -> bool:
    """Whether a compiled program in JAX' cache is whole, as far as its packing tells: JAX compiles a damaged one again, but never replaces it."""
    if not (is_file(program) and program.name.endswith("-cache")) or ZSTD_IN_USE:
        return True
    try:
        zlib.decompress(program.read_bytes())
    except (OSError, zlib.error):
        return False
    return True


def _named(output: Path) -> set[str] | None:
    """The runs that a results folder's manifests name; None if that isn't known: then all are kept."""
    try:
        return {run for file in grid.manifests(output) for run in grid.read_manifest(output, file)["runs"]}
    except Exception:  # rubbish can go wrong in any way, and is no reason to remove anything
        return None


def _is_done(run: Path) -> bool:
    """Whether the result of a run is there, whole, and not of a run that is lost."""
    try:
        return results.read(run)["status"] not in results.LOST
    except Exception:  # as above
        return False


def _asked() -> set[str]:
    return {cached.key(name, systems.get(name, preset.constants), preset) for preset in PRESETS.values() for name in systems.names()}


def _removable(root: Path, everything: bool) -> dict[Path, str]:
    """What is to be removed, and of which kind it is."""
    found = orphans(root)
    if not everything:
        return found
    kinds = {root / "cache" / "data": "data sets", root / "cache" / "xla": "compiled programs"}
    children = [Path(entry) for folder in _cleaned(root) for entry in sorted(os.scandir(folder), key=lambda entry: entry.name)]
    others = {root / "latest": "results", root / "cache": "other cached files"}
    return {path: LINKS if os.path.islink(path) else found.get(path) or kinds.get(path) or others[path.parent] for path in children}


def size(path: Path) -> tuple[int, int]:
    """(files, bytes) of a file, a link or a folder."""
    files = [p for p in walk(path) if not is_folder(p)] if is_folder(path) else [path]
    total = 0
    for file in files:
        with suppress(OSError):  # gone meanwhile
            total += os.lstat(file).st_size
    return len(files), total


def _remove(path: Path) -> None:
    if is_folder(path):
        shutil.rmtree(path)  # unlinks the links in it
    else:
        path.unlink(missing_ok=True)


def _working_places(root: Path, paths: Collection[Path]) -> list[Path]:
    """Folders whose locks guard what is to be removed: results folders and runs above it or in it, and all data sets if anything is cached."""
    found: set[Path] = set()
    for path in paths:
        region = root / path.relative_to(root).parts[0]
        above = [folder for folder in path.parents if region in folder.parents]
        inside = [p.parent for p in walk(path) if p.name in (locks.NAME, results.GRID)] if is_folder(path) else []
        found |= {folder for folder in above if any(os.path.lexists(folder / name) for name in (locks.NAME, results.GRID))} | set(inside)
    if any((root / "cache") in path.parents for path in paths):
        found |= {p.parent for p in walk(root / "cache") if p.name == locks.NAME}
    return sorted(found)


def _take(folder: Path, stack: ExitStack, dry_run: bool) -> None:
    """Holds the lock of a folder; of a run, whose grid's lock is held, it is enough that nobody has it. Raises `Busy`."""
    lock = folder / locks.NAME
    if os.path.lexists(lock) and not is_file(lock):
        return  # nobody can hold such a lock
    try:
        _require_free(lock)
        if not dry_run and folder.parent.name != RUNS:
            stack.enter_context(locks.held(folder))
    except OSError as error:
        raise Busy(f"{lock} cannot be locked ({error.strerror}): nothing was removed, since somebody may be working there") from None


def _require_free(lock: Path) -> None:
    if is_file(lock) and locks.is_held(lock):
        raise Busy(f"{locks.owner(lock) or 'another process'} is working in {lock.parent}: wait for it; nothing was removed")


def run(root: Path, options: Options, console: Console) -> int:
    """Removes what can be made again in `results`, and says how much. 1 if something could not be removed, else 0.

    Raises `Busy`, and removes nothing, where somebody works.
    """
    for link in (root, root / "latest", root / "cache"):
        if os.path.islink(link):
            _say(console, f"{link} is a link: what it leads to is left alone")
    listed = _removable(root, options.everything)
    sizes = {path: size(path) for path in listed}
    totals: dict[str, tuple[int, int]] = {}
    failed = []
    with ExitStack() as stack:
        for folder in _working_places(root, listed):
            _take(folder, stack, options.dry_run)
        for path in listed:
            if path.suffix == ".lock":
                _require_free(path)
        still = _removable(root, options.everything)  # what was about to be needed when it was listed is needed now, and not removed
        for path, kind in listed.items():
            if path not in still:
                continue
            try:
                if not options.dry_run:
                    _remove(path)
            except OSError as error:
                failed.append(f"{path} could not be removed ({error.strerror or error})")
            else:
                files, amount = totals.get(kind, (0, 0))
                totals[kind] = files + sizes[path][0], amount + sizes[path][1]
    for kind, (files, amount) in totals.items():
        _say(console, f"{'would remove' if options.dry_run else 'removed'} {files} file{'s' * (files != 1)}, {amount / 1e6:.1f} MB: {kind}")
    for line in failed:
        _say(console, line, "red")
    if not totals and not failed:
        _say(console, "nothing to remove")
    return 1 if failed else 0


def _say(console: Console, line: str, style: str = "") -> None:
    console.print(printable(line), style=style, markup=False, highlight=False, soft_wrap=True)
