"""`bench accept`: edits of rows that leave all bits as they were are recorded, and names follow; or golden numbers are written anew."""

import json
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from bench import golden, identity, results
from bench.golden import ask
from bench.times import GateError, checkout


@dataclass(frozen=True)
class Options:
    """Compares rows with those of another commit: where a short training and evaluation give the same bits, runs keep their names."""

    base: str = "HEAD"
    """commit to compare with"""
    golden: bool = False
    """instead, write the golden numbers anew (tests/golden/)"""
    deep: bool = False
    """those of all cells"""


def run(options: Options, cache: Path, console: Console) -> int:
    """0 if all that changed was accepted, or nothing did; 1 if the numbers of a row changed. Raises `GateError` where nothing can be said."""
    try:
        if options.golden or options.deep:
            for cell in golden.rewrite(golden.all_cells() if options.deep else (*golden.CELLS, golden.DATA), cache):
                console.print(f"written: {golden.path(cell)}", highlight=False, soft_wrap=True)
            return 0
        with checkout(options.base) as base:
            return rows(base, identity.ROOT, cache, console)
    except RuntimeError as error:
        raise GateError(str(error)) from error


def rows(base: Path, head: Path, cache: Path, console: Console) -> int:
    """Compares two checkouts row by row, and records in the second one which contents give the bits of the first."""
    if not (base / "bench" / "golden.py").exists():
        raise GateError("that commit knows no golden numbers yet: give a later one with --base")
    before, now = (dict(ask(root, ["rows"], cache))["rows"] for root in (base, head))
    changed = [name for name in now if name in before and now[name]["called"] != before[name]["called"]]
    if not changed:
        console.print("no row says anything else than in that commit, or it was accepted before", highlight=False)
        return 0
    kept = [name for name, one, other in _both(changed, base, head, cache) if one == other]
    known = json.loads(_accepted(head).read_text(encoding="utf-8")) if _accepted(head).exists() else {}
    for name in changed:
        said = (
            "the same bits: runs keep their names"
            if name in kept
            else "its numbers changed, so nothing is recorded: runs get new names and are made again"
        )
        console.print(f"{name}: {said}", highlight=False)
    if kept:
        results.write_json(_accepted(head), {**known, **{now[name]["content"]: before[name]["called"] for name in kept}})
        console.print(f"recorded in {identity.ACCEPTED.relative_to(identity.ROOT)}: commit it with the edit", highlight=False)
    return 0 if kept == changed else 1


def _both(names: list[str], base: Path, head: Path, cache: Path) -> list[tuple[str, str, str]]:
    """(name, bits, bits) of rows in two checkouts; what was compiled for one may serve the other."""
    one, other = (dict(ask(root, names, cache)) for root in (base, head))
    return [(name, one[name], other[name]) for name in names]


def _accepted(root: Path) -> Path:
    return root / identity.ACCEPTED.relative_to(identity.ROOT)
