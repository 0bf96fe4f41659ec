"""Times of two commits side by side: each is run by a process of its own checkout, and the two are asked in turn."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench import identity
from bench.worker import environment

OUTPUT = Path("results/latest/perf").absolute()
BEFORE = "HEAD^"  # the commit to compare with if none is asked for
SLOWER = 1.25
ROUNDS = 4


class GateError(ValueError):
    """Nothing can be said; the message says what to do."""


class NothingToCompare(GateError):
    """No commit before this one, or one without benchmarks: said, and no failure."""


def machine() -> str:
    """What times depend on: processor and number of cores."""
    return f"{identity.processor()}, {os.cpu_count()} cores"


class Side:
    """A process that times the cases of one checkout. Use as a context."""

    def __init__(self, title: str, root: Path, cache: Path):
        self.title, self.log = title, OUTPUT / f"{title}.log"
        env = os.environ | environment(cache, haste=False) | {"PYTHONPATH": str(root)}
        OUTPUT.mkdir(parents=True, exist_ok=True)
        with self.log.open("w") as log:
            command, pipe = [sys.executable, "-m", "bench.cases"], subprocess.PIPE
            self.process = subprocess.Popen(command, cwd=root, env=env, stdin=pipe, stdout=pipe, stderr=log, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def tell(self, request: str) -> None:
        """Asks for something: `names`, `build NAME` or `time NAME`."""
        with suppress(BrokenPipeError):  # then the answer says so
            print(request, file=self.process.stdin, flush=True)

    def answer(self) -> dict:
        """Answer to what was asked. Raises `GateError` if there is none."""
        line = self.process.stdout.readline() if self.process.stdout else ""
        try:
            answer: dict = json.loads(line) if line else {"error": "its process died"}
        except ValueError:
            answer = {"error": f"it says {line.strip()}"}
        if "error" in answer:
            raise GateError(f"the benchmarks of the {self.title} fail: {answer['error']} (see {self.log})")
        return answer

    def ask(self, request: str) -> dict:
        """Answer to a request."""
        self.tell(request)
        return self.answer()


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
    """Times of those cases that two checkouts both have, in turn: a slow spell of the machine meets both."""
    with Side("base", base, cache) as before, Side("head", head, cache) as now:
        sides, times = (before, now), {}
        known = [set(side.ask("names")["names"]) for side in sides]
        for name in filter(set.intersection(*known).__contains__, names):
            for side in sides:
                side.tell(f"build {name}")
            for side in sides:
                side.answer()
            seconds: dict[Side, list[float]] = {side: [] for side in sides}
            for turn in range(rounds):
                for side in sides if turn % 2 == 0 else sides[::-1]:
                    seconds[side].append(float(side.ask(f"time {name}")["seconds"]))
            times[name] = Times(min(seconds[before]), min(seconds[now]))
        return times


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
def checkout(revision: str | None) -> Iterator[Path]:
    """A commit in a folder of its own; None: the one before. Raises `GateError` if there is none, `NothingToCompare` if none was asked for."""
    git = ["git", "-C", str(identity.ROOT)]
    asked = (revision or "").strip("0") != ""  # zeros are how a new branch is told that nothing was before it
    name = revision if asked else BEFORE

    def run_git(*arguments: str) -> str:
        """Runs git; what goes wrong, in its own words, or nothing."""
        try:
            done = subprocess.run([*git, *arguments], capture_output=True, text=True)
        except OSError as error:
            return str(error)
        return "" if done.returncode == 0 else done.stderr.strip() or "no such commit"

    if wrong := run_git("rev-parse", "--verify", f"{name}^{{commit}}"):
        if asked:
            raise GateError(f"there is no commit {name} here ({wrong}): give another with BASE=")
        raise NothingToCompare(f"there is no commit before this one here ({wrong})")
    run_git("worktree", "prune")
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder) / "base"
        try:
            if wrong := run_git("worktree", "add", "--quiet", "--detach", str(where), str(name)):
                raise GateError(f"{name} cannot be checked out: {wrong}")
            if not (where / "bench/cases.py").exists():
                raise NothingToCompare(f"{name} has no benchmarks yet")
            yield where
        finally:
            run_git("worktree", "remove", "--force", str(where))
