"""The gate: nothing gets slower or less accurate unnoticed. `python -m bench perf check | compare | baseline`.

What can be counted (operations, equations, parameters, memory, programs) must be what the committed baseline says, for this version of jax. Times
are compared only with times of another commit, taken in turn on the same machine, and trip from a quarter on. Errors of the smoke grid must
lie within the committed interval.
"""

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from bench import grid, identity, locks, pool, results
from bench.floors import FLOORS
from bench.presets import PRESETS
from bench.run import run
from bench.times import BEFORE, OUTPUT, SLOWER, GateError, NothingToCompare, checkout, machine, slower
from bench.worker import environment

BASELINE = Path("results/reference/perf.json")
LOOSE = {"temporary_bytes": 0.1}  # the compiler plans memory for a processor; all other figures are the same everywhere
ACCURACY = ("field_error", "rollout_error")  # of the smoke grid: every model has one of them
GENTLE = replace(PRESETS["smoke"], learning_rate=5e-3)  # at the models' own rates a hundred steps let rounding grow to half of an error
INTERVAL = 1.25  # each way, for rounding that differs between processors
PARTS = ("figures", "errors", "times")
Figures = dict[str, dict[str, int | float]]


# What is counted --------------------------------------------------------------------------------------------------


def measured(cache: Path, only: str = "") -> tuple[Figures, dict[str, float]]:
    """Figures and seconds of the cases in whose name `only` occurs, from pytest-benchmark's own file. Raises `GateError` if they don't pass."""
    from bench import cases

    OUTPUT.mkdir(parents=True, exist_ok=True)
    file = OUTPUT / "benchmarks.json"
    file.unlink(missing_ok=True)
    wanted = [f"tests/perf/test_perf.py::test_speed[{name}]" for name in chosen(cases.names(), only)] if only else ["tests/perf"]
    command = [sys.executable, "-m", "pytest", *wanted, "-o", "addopts=-q -p no:cacheprovider", f"--benchmark-json={file}"]
    done = subprocess.run(command, cwd=identity.ROOT, env=os.environ | environment(cache, haste=False), capture_output=True, text=True)
    if done.returncode != 0:
        raise GateError("the benchmarks don't pass: " + " ".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-3:]))
    benchmarks = json.loads(file.read_text())["benchmarks"] if file.exists() and file.stat().st_size else []
    named = {b["params"]["name"]: b for b in benchmarks}
    smaller = [{"name": name, "unit": "s", "value": b["stats"]["min"]} for name, b in named.items()]
    results.write_atomically(OUTPUT / "smaller_is_better.json", json.dumps(smaller, indent=1).encode())
    return {name: b["extra_info"] for name, b in named.items()}, {name: b["stats"]["min"] for name, b in named.items()}


def chosen(names: Iterable[str], only: str) -> tuple[str, ...]:
    """The names in which `only` occurs. Raises `GateError` if there are none."""
    found = tuple(name for name in names if only in name)
    if not found:
        raise GateError(f"no benchmark's name has '{only}' in it: choose from {', '.join(names)}")
    return found


def differences(expected: Figures, found: Figures, same_machine: bool = True) -> list[str]:
    """What is not as the baseline says, a line each. Planned memory is compared on the same machine alone."""
    if not found:
        return ["no benchmark ran"]
    lines = [f"{name}: in the baseline, but no longer there (renamed or removed?)" for name in expected if name not in found]
    lines += [f"{name}: new, and not in the baseline" for name in found if name not in expected]
    for name in expected.keys() & found.keys():
        for figure in sorted(expected[name].keys() | found[name].keys()):
            before, now = (side[name].get(figure) for side in (expected, found))
            if figure in LOOSE and not same_machine:
                continue
            if before is None or now is None or not math.isfinite(before) or not math.isfinite(now):
                lines.append(f"{name}: {figure} is {now}, the baseline has {before}")
            elif abs(now - before) > LOOSE.get(figure, 0.0) * abs(before):
                change = f" ({now / before - 1:+.1%})" if before else ""
                lines.append(f"{name}: {figure} is {now:,.0f}, the baseline has {before:,.0f}{change}")
    return sorted(lines)


# What is accurate -------------------------------------------------------------------------------------------------


def errors(cache: Path, console: Console) -> Figures:
    """Key errors of each cell of the smoke grid, run now: shared code that has changed leaves the names of older runs as they are."""
    output = OUTPUT / "smoke"
    if output.exists():
        shutil.rmtree(output)
    if run("smoke", GENTLE, output, cache, pool.cores(), console):
        raise GateError(f"the smoke grid failed: see {output}/logs")
    _, rows, _ = grid.read_grid(output)
    trained = [r for r in rows if r["model"] not in FLOORS]  # a floor's error is rounding, or nothing that could change
    return {f"{r['model']} on {r['system']}": {name: float(r["metrics"][name]) for name in ACCURACY if name in r["metrics"]} for r in trained}


def outside(expected: Figures, found: Figures) -> list[str]:
    """Errors that do not lie within the interval around the committed ones, a line each."""
    lines = [f"{cell}: no errors of the smoke grid to compare" for cell in expected if cell not in found]
    lines += [f"{cell}: not in the baseline" for cell in found if cell not in expected]
    for cell in expected.keys() & found.keys():
        for name in sorted(expected[cell].keys() | found[cell].keys()):
            before, now = (side[cell].get(name, math.nan) for side in (expected, found))
            if not (math.isfinite(now) and before / INTERVAL <= now <= before * INTERVAL):
                lines.append(f"{cell}: {name} is {now:.3g}, outside {before / INTERVAL:.3g} to {before * INTERVAL:.3g}")
    return sorted(lines)


# The three commands -----------------------------------------------------------------------------------------------


def read_baseline() -> dict:
    """The committed baseline for this version of jax. Raises `GateError` if there is none."""
    version = identity.versions()["jax"]
    if not BASELINE.exists():
        raise GateError(f"there is no {BASELINE}: make it with make perf-baseline, and commit it")
    versions = _versions()
    if version not in versions:
        raise GateError(f"{BASELINE} knows jax {', '.join(versions)}, not {version}: add it with make perf-baseline, and commit it")
    return versions[version]


def _versions() -> dict:
    try:
        versions = json.loads(BASELINE.read_text(encoding="utf-8"))["jax"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GateError(f"{BASELINE} is damaged ({error!r}): get it back with git checkout, or delete it and run make perf-baseline") from error
    return versions


@contextmanager
def alone() -> Iterator[None]:
    """One gate at a time in a checkout: two would spoil each other's times. Raises `GateError` if there is another."""
    try:
        with locks.held(OUTPUT):
            yield
    except locks.Busy as error:
        raise GateError(f"another gate is at work in this checkout: {error}") from None


def check(cache: Path, console: Console, base: str | None, parts: tuple[str, ...] = PARTS, only: str = "") -> int:
    """Compares with the baseline, and with the time of another commit. 0 if all is as it should be, else 1."""
    from bench import cases

    with alone():
        baseline = read_baseline()
        names = chosen(cases.names(), only)
        here = baseline["machine"] == machine()
        if not here:
            console.print(f"The baseline was made on another machine ({baseline['machine']}): planned memory is not compared.", highlight=False)
        lines: list[str] = []
        if "figures" in parts:
            found, _ = measured(cache, only)
            lines += differences({name: figures for name, figures in baseline["figures"].items() if only in name}, found, here)
            console.print(f"{len(found)} benchmarks counted, {len(lines)} differences from the baseline", highlight=False)
        if "errors" in parts:
            accuracy = errors(cache, Console(quiet=True))
            wrong = outside(baseline["errors"], accuracy)
            lines += wrong
            console.print(f"{len(accuracy)} cells of the smoke grid, {len(wrong)} errors outside their interval", highlight=False)
        accepted = not lines
        if "times" in parts:
            lines += _compare_times(cache, console, base, names)
        for line in lines:
            console.print(line, style="red", highlight=False, soft_wrap=True)
        if not accepted:
            console.print("If that is meant, accept it with make perf-baseline, and say why in the commit.", highlight=False)
        return 1 if lines else 0


def _compare_times(cache: Path, console: Console, base: str | None, names: tuple[str, ...], every: bool = False) -> list[str]:
    """What is slower than in another commit, a line each; `every` prints all times."""
    try:
        with checkout(base) as root:
            times, late = slower(root, identity.ROOT, names, cache)
    except NothingToCompare as error:
        console.print(f"Times not compared: {error}", style="yellow", highlight=False, soft_wrap=True)
        return []
    if unknown := [name for name in names if name not in times]:
        console.print(f"Not timed, since {base or BEFORE} does not have them: {'; '.join(unknown)}", style="yellow", highlight=False, soft_wrap=True)
    for name, t in times.items() if every else ():
        console.print(f"{name:42} {t.base * 1e3:10.2f} ms {t.head * 1e3:10.2f} ms {t.ratio - 1:+7.0%}", highlight=False, soft_wrap=True)
    console.print(f"{len(times)} times against {base or BEFORE}, {len(late)} slower by {SLOWER - 1:.0%} or more", highlight=False)
    return late


def compare(cache: Path, console: Console, base: str | None, only: str = "") -> int:
    """Times of every case against another commit. 1 if one is a quarter slower or more."""
    from bench import cases

    with alone():
        late = _compare_times(cache, console, base, chosen(cases.names(), only), every=True)
    for line in late:
        console.print(line, style="red", highlight=False, soft_wrap=True)
    return 1 if late else 0


def baseline(cache: Path, console: Console) -> int:
    """Accepts what is measured now, says what changes, and adds it to the history."""
    from bench import history

    with alone():
        version = identity.versions()["jax"]
        versions = _versions() if BASELINE.exists() else {}
        figures, seconds = measured(cache)
        accuracy = errors(cache, console)
        values = [value for side in (figures, accuracy) for row in side.values() for value in row.values()]
        if not figures or not all(map(math.isfinite, [*values, *seconds.values()])):
            raise GateError("no benchmark ran, or one is not finite: nothing to accept")
        if version in versions:
            changes = differences(versions[version]["figures"], figures) + outside(versions[version]["errors"], accuracy)
            for line in changes or ["nothing changes but times"]:
                console.print(line, highlight=False, soft_wrap=True)
        history.add(figures, seconds, version, machine())
        entry = {"machine": machine(), "figures": figures, "seconds": seconds, "errors": accuracy}
        results.write_json(BASELINE, {"schema": 1, "jax": {**versions, version: entry}})
        console.print(f"{BASELINE}: {len(figures)} benchmarks, {len(accuracy)} cells, jax {version}", highlight=False)
        return 0
