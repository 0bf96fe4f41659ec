"""`bench doctor`: what is wrong with this checkout, its environment and its results, and what to do about it. It changes nothing."""

import importlib.metadata
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from packaging.requirements import InvalidRequirement, Requirement
from rich.console import Console
from rich.text import Text

from bench import clean, grid, identity, locks, results, sealed

FINE, WARNING, WRONG = "✓", "!", "✗"
STYLES = {FINE: "green", WARNING: "yellow", WRONG: "bold red"}
MISCOMPILES = "0.10.2"  # jaxlib on CPU, jax issue 39103
CANARIES = ((jnp.float64, 16_400), (jnp.float32, 32_800))  # numbers of states from which on that version is wrong
SPACE = 2.0  # GiB
ANEW = "remove .venv, then run make setup"
AGAIN = "python -m bench run makes it again"


@dataclass(frozen=True)
class Options:
    """Looks for what is wrong with versions, compiler, disk, locks and files, and says what to do about it. It changes nothing.

    Exit code 0: nothing is wrong (there may be warnings, marked !); 1: something is, marked ✗.
    """


class Finding(NamedTuple):
    """One line: how it is, what was looked at, what was found, and what to do about it."""

    sign: str
    what: str
    found: str
    todo: str = ""


def compiler_is_sound(dtype, n: int) -> bool:
    """Whether XLA computes kinetic energies of `n` states at once as they are one by one. jaxlib 0.10.2 does not, on CPU (jax issue 39103)."""
    M = np.array([[2.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 4.0]])
    v = np.random.default_rng(0).integers(-9, 10, (n, 3)).astype(float)  # small integers: sums are exact in any order
    mass, velocities = jnp.asarray(M, dtype), jnp.asarray(v, dtype)

    def momenta(v):
        return mass @ v

    squares = jax.jit(jax.vmap(lambda v: jnp.sum(momenta(v) ** 2)))(velocities)
    energies = jax.jit(jax.vmap(lambda v: v @ momenta(v)))(velocities)
    return np.array_equal(squares, ((v @ M) ** 2).sum(1)) and np.array_equal(energies, (v @ M * v).sum(1))


def compiler(_: Path) -> Iterator[Finding]:
    """The version that is known to miscompile, and whether this one does."""
    version = importlib.metadata.version("jaxlib")
    if version == MISCOMPILES or not all(compiler_is_sound(dtype, n) for dtype, n in CANARIES):
        yield Finding(WRONG, "compiler", f"jaxlib {version} returns wrong numbers (jax issue 39103)", f"believe none of them: {ANEW}")
    else:
        yield Finding(FINE, "compiler", f"jaxlib {version} computes on {jax.default_backend()} what is written")


def versions(lock: Path) -> Iterator[Finding]:
    """Installed packages, against the lines of the lock that are for this Python and this machine."""
    other, count, restore = [], 0, f"git restore {lock.name} gets it back"
    if not lock.is_file():
        yield Finding(WARNING, "versions", f"there is no {lock.name} to compare with", restore)
        return
    for line in lock.read_text(encoding="utf-8").splitlines():
        try:
            wanted = Requirement(line.strip())
            if wanted.marker is None or wanted.marker.evaluate():
                installed = importlib.metadata.version(wanted.name)
                count += 1
                if not wanted.specifier.contains(installed, prereleases=True):
                    other.append(f"{wanted.name} {installed} (instead of {str(wanted.specifier).removeprefix('==')})")
        except InvalidRequirement:
            yield Finding(WARNING, "versions", f"{lock.name} has a line that names no package: {line}", restore)
        except importlib.metadata.PackageNotFoundError:
            pass  # not all are needed to run: what is fails when it is imported
    if other:
        yield Finding(WARNING, "versions", f"not those of {lock.name}: {', '.join(other)}", f"{ANEW}, unless that is meant")
    else:
        yield Finding(FINE, "versions", f"Python {platform.python_version()}, {count} packages as in {lock.name}")


def disk(root: Path) -> Iterator[Finding]:
    """Free space, and whether folders can be written."""

    def existing(path: Path) -> Path:
        return path if os.path.lexists(path) or path == path.parent else existing(path.parent)

    free = shutil.disk_usage(existing(root)).free / 2**30
    todo = "free some: python -m bench clean, or clean --everything" if free < SPACE else ""
    yield Finding(WARNING if todo else FINE, "disk", f"{free:.1f} GiB free for {root}", todo)
    for folder in (root / "latest", root / "cache"):
        try:
            with tempfile.TemporaryFile(dir=existing(folder)):
                pass
        except OSError as error:
            yield Finding(WRONG, "disk", f"{folder} cannot be written ({error.strerror})", f"make {existing(folder)} a folder that you may write")
        else:
            yield Finding(FINE, "disk", f"{folder} can be written")


def held_locks(root: Path) -> Iterator[Finding]:
    """Who works where; what a dead process left is no lock."""
    free = taken = 0
    for path in (p for region in ("latest", "cache") for p in clean.walk(root / region) if p.name == locks.NAME):
        try:
            if _is_in_use(path.parent):
                taken += 1
                yield Finding(WARNING, "locks", f"{locks.owner(path) or 'another process'} is working in {path.parent}", "wait for it, or end it")
            else:
                free += 1
        except OSError as error:
            yield Finding(WRONG, "locks", f"{path} cannot be locked ({error.strerror})", "make it a file that you may write")
    if not taken:
        yield Finding(FINE, "locks", f"none is held ({free} were left by processes that have ended, which is no problem)")


def _is_in_use(folder: Path) -> bool:
    """Whether somebody works in a folder: what he is about to replace looks damaged."""
    lock = folder / locks.NAME
    return clean.is_file(lock) and locks.is_held(lock)


def _wrong(what: str, path: Path, error: Exception, todo: str) -> Finding:
    """What an error says of a path."""
    if isinstance(error, OSError):
        todo = "make it readable" if isinstance(error, PermissionError) else todo
        return Finding(WRONG, what, f"{error.filename or path} cannot be read ({error.strerror or error})", todo)
    said = str(error).removesuffix(f": {results.AGAIN}").removesuffix(f": {results.RESTORE}").removeprefix("damaged: ") or type(error).__name__
    return Finding(WRONG, what, said if str(path) in said else f"{path} is damaged: {said}", todo)


def _damaged(what: str, paths: Iterable[Path], check: Callable[[Path], object], todo: str, summary: str) -> Iterator[Finding]:
    """A line for everything that a check finds damaged; if there is none, the summary."""
    whole = True
    for path in paths:
        try:
            check(path)
        except Exception as error:  # rubbish can go wrong in any way
            whole = False
            yield _wrong(what, path, error, todo)
    if whole:
        yield Finding(FINE, what, summary)


def result_folders(root: Path) -> Iterator[Finding]:
    """Results, parameters and checkpoints: whether they are what was written."""
    unreadable: list[OSError] = []
    regions = [root / name for name in ("latest", "reference") if os.path.isdir(root / name)]
    found = (path for region in regions for path in clean.walk(region, unreadable.append) if path.name in results.MANIFESTS)
    folders = list(dict.fromkeys(path.parent for path in found))
    for error in unreadable:
        yield Finding(WRONG, "results", f"{error.filename} cannot be read ({error.strerror})", "make it readable")
    for folder in folders:
        todo = f"git restore {folder} gets it back" if folder.is_relative_to(root / "reference") else AGAIN
        try:
            if _is_in_use(folder):
                yield Finding(FINE, "results", f"{folder} is in use: not examined")
            else:
                yield from _results(folder, todo)
        except Exception as error:  # rubbish can go wrong in any way
            newer = isinstance(error, results.ResultsError) and not isinstance(error, results.DamagedResult)
            warning = Finding(WARNING, "results", str(error), "read it with the version that wrote it")
            yield warning if newer else _wrong("results", folder, error, todo)
    if not folders:
        yield Finding(FINE, "results", "there are none yet")


def _results(folder: Path, todo: str) -> Iterator[Finding]:
    rows, holes = grid.read_all(folder)
    named = [*(row["run"] for row in rows), *holes]
    damaged = {why: run for run, why in holes.items() if why.startswith("damaged")}  # all runs of a packed cell for one reason
    for why, run in damaged.items():
        yield _wrong("results", grid.folder(folder, run), ValueError(why), todo)
    older = {row["run"] for row in rows if "sha256" not in row}
    runs = [grid.folder(folder, run) for run in named if run not in older]
    folders = [path for run in runs for path in (run / results.PARAMETERS, *sorted((run / results.CHECKPOINTS).glob("[0-9]*")))]
    summary = f"{folder}: {len(rows)} of {len(named)} runs are there"
    yield from _damaged("results", filter(os.path.isdir, folders), sealed.unseal, AGAIN, summary)
    if older:
        found = f"{folder}: {len(older)} results of an earlier version, without checksums"
        yield Finding(WARNING, "results", found, "those made from now on have them")


def cached_files(root: Path) -> Iterator[Finding]:
    """Data sets and compiled programs in the cache: whether they are what was written."""
    data, xla = root / "cache" / "data", root / "cache" / "xla"
    sets = [path for path in sorted(data.glob("*-*")) if clean.DATA_SET.fullmatch(path.name) and path.suffix != ".making"]
    unused = (path for path in sets if not _is_in_use(path.with_name(f"{path.name}.making")))
    yield from _damaged("data sets", unused, sealed.unseal, AGAIN, f"{len(sets)} in {data}")
    programs = sorted(path for path in xla.glob("*-cache") if path.is_file())
    if clean.ZSTD_IN_USE:
        yield Finding(FINE, "programs", f"{len(programs)} in {xla}, packed by zstd: not examined")
    else:
        yield from _damaged("programs", programs, _unpack, "python -m bench clean removes it", f"{len(programs)} in {xla}")


def _unpack(program: Path) -> None:
    if not clean.unpacks(program):
        raise ValueError(f"{program} does not unpack")


def leftovers(root: Path) -> Iterator[Finding]:
    """What nothing needs any more."""
    found = clean.orphans(root)
    for kind in dict.fromkeys(found.values()):
        paths = [path for path, k in found.items() if k == kind]
        size = sum(clean.size(path)[1] for path in paths) / 1e6
        yield Finding(WARNING, "leftovers", f"{kind}: {len(paths)}, {size:.1f} MB", "python -m bench clean removes them")
    if not found:
        yield Finding(FINE, "leftovers", "there are none")


def examine(root: Path, lock: Path = identity.ROOT / "requirements.lock") -> Iterator[Finding]:
    """All findings about the environment and a folder of results. Nothing that lies there ends the examination."""
    for check in (versions, compiler, disk, held_locks, result_folders, cached_files, leftovers):
        of = lock if check is versions else root
        try:
            yield from check(of)
        except Exception as error:  # rubbish can go wrong in any way
            yield Finding(
                WRONG, check.__name__.replace("_", " "), f"{of} cannot be examined ({type(error).__name__}: {error})", "look at what lies there"
            )


def run(root: Path, console: Console) -> int:
    """Says what is found, a line each. 1 if something is wrong, else 0."""
    findings = list(examine(root))
    width = max(len(finding.what) for finding in findings)
    for sign, what, found, todo in findings:
        line = f"{what:{width}}  {found}" + f" → {todo}" * bool(todo)
        console.print(Text.assemble((sign, STYLES[sign]), " ", clean.printable(line)), soft_wrap=True)
    return 1 if any(finding.sign == WRONG for finding in findings) else 0
