"""The gate: nothing gets slower or less accurate unnoticed. `python -m bench perf check | compare | baseline`.

What can be counted (operations, equations, parameters, memory, programs) must be what the committed baseline says, for this version of jax. Times
are compared only with times of another commit, taken in turn on the same machine, and trip from a quarter on. Errors of the smoke grid must
lie within the committed interval.
"""

import json
import math
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from bench import grid, identity, results
from bench.presets import PRESETS
from bench.run import run
from bench.worker import environment

BASELINE = Path("results/reference/perf.json")
OUTPUT = Path("results/latest/perf").absolute()
LOOSE = {"temporary_bytes": 0.1}  # the compiler plans memory for a processor; all other figures are the same everywhere
ACCURACY = ("field_error", "rollout_error")  # of the smoke grid: every model has one of them
INTERVAL = 1.25  # each way: rounding differs between processors, and a hundred steps let it grow by a few per cent
SLOWER = 1.25
ROUNDS = 4
PARTS = ("figures", "errors", "times")
Figures = dict[str, dict[str, int | float]]


class GateError(ValueError):
    """Nothing can be said; the message says what to do."""


class NothingToCompare(GateError):
    """No other commit, or one without benchmarks."""


def machine() -> str:
    """What times depend on: processor and number of cores."""
    model = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else model
    return f"{model}, {os.cpu_count()} cores"


# What is counted --------------------------------------------------------------------------------------------------


def measured(cache: Path, only: str = "") -> tuple[Figures, dict[str, float]]:
    """Figures and seconds of the cases in whose name `only` occurs, from pytest-benchmark's own file. Raises `GateError` if they don't pass."""
    from bench import cases

    OUTPUT.mkdir(parents=True, exist_ok=True)
    file = OUTPUT / "benchmarks.json"
    file.unlink(missing_ok=True)
    wanted = [f"tests/perf/test_perf.py::test_speed[{name}]" for name in cases.names() if only in name] if only else ["tests/perf"]
    command = [sys.executable, "-m", "pytest", *wanted, "-o", "addopts=-q -p no:cacheprovider", f"--benchmark-json={file}"]
    done = subprocess.run(command, cwd=identity.ROOT, env=os.environ | environment(cache, haste=False), capture_output=True, text=True)
    if done.returncode != 0:
        raise GateError("the benchmarks don't pass: " + " ".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-3:]))
    benchmarks = json.loads(file.read_text())["benchmarks"] if file.exists() and file.stat().st_size else []
    named = {b["params"]["name"]: b for b in benchmarks}
    smaller = [{"name": name, "unit": "s", "value": b["stats"]["min"]} for name, b in named.items()]
    results.write_atomically(OUTPUT / "smaller_is_better.json", json.dumps(smaller, indent=1).encode())
    return {name: b["extra_info"] for name, b in named.items()}, {name: b["stats"]["min"] for name, b in named.items()}


def differences(expected: Figures, found: Figures) -> list[str]:
    """What is not as the baseline says, a line each."""
    if not found:
        return ["no benchmark ran"]
    lines = [f"{name}: in the baseline, but no longer there (renamed or removed?)" for name in expected if name not in found]
    lines += [f"{name}: new, and not in the baseline" for name in found if name not in expected]
    for name in expected.keys() & found.keys():
        for figure in sorted(expected[name].keys() | found[name].keys()):
            before, now = (side[name].get(figure) for side in (expected, found))
            if before is None or now is None or math.isnan(before) or math.isnan(now):
                lines.append(f"{name}: {figure} is {now}, the baseline has {before}")
            elif abs(now - before) > LOOSE.get(figure, 0.0) * abs(before):
                change = f" ({now / before - 1:+.1%})" if before else ""
                lines.append(f"{name}: {figure} is {now:,.0f}, the baseline has {before:,.0f}{change}")
    return sorted(lines)


# What is accurate -------------------------------------------------------------------------------------------------


def errors(cache: Path, console: Console) -> Figures:
    """Key errors of each cell of the smoke grid, run now unless it is there."""
    output = Path("results/latest/smoke")
    if run("smoke", PRESETS["smoke"], output, cache, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1, console):
        raise GateError("the smoke grid failed: see above")
    _, rows, _ = grid.read_grid(output)
    return {f"{r['model']} on {r['system']}": {name: r["metrics"][name] for name in ACCURACY if name in r["metrics"]} for r in rows}


def outside(expected: Figures, found: Figures) -> list[str]:
    """Errors that do not lie within the interval around the committed ones, a line each."""
    lines = [f"{cell}: no errors of the smoke grid to compare" for cell in expected if cell not in found]
    lines += [f"{cell}: not in the baseline" for cell in found if cell not in expected]
    for cell in expected.keys() & found.keys():
        for name in sorted(expected[cell].keys() | found[cell].keys()):
            before, now = (side[cell].get(name, math.nan) for side in (expected, found))
            if not before / INTERVAL <= now <= before * INTERVAL:  # not so for NaN
                lines.append(f"{cell}: {name} is {now:.3g}, outside {before / INTERVAL:.3g} to {before * INTERVAL:.3g}")
    return sorted(lines)


# What takes time --------------------------------------------------------------------------------------------------


class Side:
    """A process that times the cases of one checkout."""

    def __init__(self, root: Path, cache: Path):
        env = os.environ | environment(cache, haste=False) | {"PYTHONPATH": str(root)}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.cases"], cwd=root, env=env, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
        )

    def ask(self, command: str, name: str) -> None:
        """Asks it to `build` or to `time` a case."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command} {name}\n")
        self.process.stdin.flush()

    def answer(self) -> float:
        """Seconds of what was asked last. Raises `GateError` if it cannot be done."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        answer: dict = json.loads(line) if line else {"error": "its process died"}
        if "error" in answer:
            raise GateError(f"a benchmark fails: {answer['error']}")
        return float(answer["seconds"])


@dataclass(frozen=True)
class Times:
    """Least seconds of a case on both sides."""

    base: float
    head: float

    @property
    def ratio(self) -> float:
        """How much longer it takes now."""
        return self.head / self.base


def interleaved(base: Path, head: Path, names: tuple[str, ...], cache: Path, rounds: int) -> dict[str, Times]:
    """Times of cases in two checkouts, in turn: a slow spell of the machine meets both."""
    sides = [Side(base, cache), Side(head, cache)]
    try:
        times = {}
        for name in names:
            for side in sides:
                side.ask("build", name)
            for side in sides:
                side.answer()
            seconds: list[list[float]] = [[], []]
            for turn in range(rounds):
                for i in (0, 1) if turn % 2 == 0 else (1, 0):
                    sides[i].ask("time", name)
                    seconds[i].append(sides[i].answer())
            times[name] = Times(min(seconds[0]), min(seconds[1]))
        return times
    finally:
        for side in sides:
            side.process.kill()


def slower(base: Path, head: Path, names: tuple[str, ...], cache: Path) -> tuple[dict[str, Times], list[str]]:
    """Times of all cases; and those a quarter slower or more, measured again before that is said."""
    times = interleaved(base, head, names, cache, ROUNDS)
    suspects = tuple(name for name, t in times.items() if not t.ratio < SLOWER)
    if suspects:
        again = interleaved(base, head, suspects, cache, 3 * ROUNDS)
        times |= {name: Times(min(times[name].base, t.base), min(times[name].head, t.head)) for name, t in again.items()}
    lines = [f"{n}: {times[n].head:.3g} s, {times[n].ratio - 1:+.0%} against the base" for n in suspects if not times[n].ratio < SLOWER]
    return times, lines


@contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """A commit in a folder of its own. Raises `NothingToCompare` if there is no such commit, or if it has no benchmarks."""
    git = ["git", "-C", str(identity.ROOT)]
    if subprocess.run([*git, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"], capture_output=True).returncode != 0:
        raise NothingToCompare(f"there is no commit {revision} here (a shallow clone?): give one with BASE=")
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder) / "base"
        subprocess.run([*git, "worktree", "add", "--quiet", "--detach", str(where), revision], check=True, capture_output=True)
        try:
            if not (where / "bench/cases.py").exists():
                raise NothingToCompare(f"{revision} has no benchmarks yet")
            yield where
        finally:
            subprocess.run([*git, "worktree", "remove", "--force", str(where)], capture_output=True)


# The three commands -----------------------------------------------------------------------------------------------


def read_baseline() -> dict:
    """The committed baseline for this version of jax. Raises `GateError` if there is none."""
    version = identity.versions()["jax"]
    if not BASELINE.exists():
        raise GateError(f"there is no {BASELINE}: make it with make perf-baseline, and commit it")
    versions = results.read_json(BASELINE)["jax"]
    if version not in versions:
        raise GateError(f"{BASELINE} knows jax {', '.join(versions)}, not {version}: add it with make perf-baseline, and commit it")
    return versions[version]


def check(cache: Path, console: Console, base: str, parts: tuple[str, ...] = PARTS, only: str = "") -> int:
    """Compares with the baseline, and with the time of another commit. 0 if all is as it should be, else 1."""
    from bench import cases

    baseline = read_baseline()
    known = {name: figures for name, figures in baseline["figures"].items() if only in name}
    if baseline["machine"] != machine():
        console.print(
            f"The baseline was made on another machine ({baseline['machine']}): its times are not compared, its figures are.", highlight=False
        )
    lines: list[str] = []
    if "figures" in parts:
        found, _ = measured(cache, only)
        lines += differences(known, found)
        console.print(f"{len(found)} benchmarks counted, {len(lines)} differences from the baseline", highlight=False)
    if "errors" in parts:
        accuracy = errors(cache, Console(quiet=True))
        wrong = outside(baseline["errors"], accuracy)
        lines += wrong
        console.print(f"{len(accuracy)} cells of the smoke grid, {len(wrong)} errors outside their interval", highlight=False)
    accepted = not lines
    if "times" in parts:
        try:
            with checkout(base) as root:
                names = tuple(name for name in cases.names() if name in known)
                times, late = slower(root, identity.ROOT, names, cache)
                lines += late
                console.print(f"{len(times)} times against {base}, {len(late)} slower by {SLOWER - 1:.0%} or more", highlight=False)
        except NothingToCompare as error:
            console.print(f"Times not compared: {error}", style="yellow", highlight=False, soft_wrap=True)
    for line in lines:
        console.print(line, style="red", highlight=False, soft_wrap=True)
    if not accepted:
        console.print("If that is meant, accept it with make perf-baseline, and say why in the commit.", highlight=False)
    return 1 if lines else 0


def compare(cache: Path, console: Console, base: str, only: str = "") -> int:
    """Times of every case against another commit. 1 if one is a quarter slower or more."""
    from bench import cases

    with checkout(base) as root:
        names = tuple(name for name in cases.names() if only in name)
        times, late = slower(root, identity.ROOT, names, cache)
    for name, t in times.items():
        console.print(f"{name:42} {t.base * 1e3:10.2f} ms {t.head * 1e3:10.2f} ms {t.ratio - 1:+7.0%}", highlight=False, soft_wrap=True)
    return 1 if late else 0


def baseline(cache: Path, console: Console) -> int:
    """Accepts what is measured now, says what changes, and adds it to the history."""
    from bench import history

    version = identity.versions()["jax"]
    versions = results.read_json(BASELINE)["jax"] if BASELINE.exists() else {}
    figures, seconds = measured(cache)
    if not figures:
        raise GateError("no benchmark ran: nothing to accept")
    accuracy = errors(cache, console)
    if version in versions:
        changes = differences(versions[version]["figures"], figures) + outside(versions[version]["errors"], accuracy)
        for line in changes or ["nothing changes but times"]:
            console.print(line, highlight=False, soft_wrap=True)
    entry = {"machine": machine(), "figures": figures, "seconds": seconds, "errors": accuracy}
    results.write_json(BASELINE, {"schema": results.SCHEMA, "jax": {**versions, version: entry}})
    history.add(figures, seconds, version, machine())
    console.print(f"{BASELINE}: {len(figures)} benchmarks, {len(accuracy)} cells, jax {version}", highlight=False)
    return 0
