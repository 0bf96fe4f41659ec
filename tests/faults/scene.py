"""A copy of the packages in a folder of its own, where `python -m bench` runs as a user runs it."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench import grid, results

ROOT = Path(__file__).parents[2]
OUTPUT = "results/latest/smoke"
# two quick models; a checkpoint after every chunk, and more chunks than a kill at a random time can miss
TINY = (
    *("--systems", "relativistic_particle", "--models", "second_order_ode", "hnn", "--seeds", "0", "1", "--steps", "200", "--chunk", "10"),
    *("--warmup", "2", "--data-share", "0.005", "--checkpoint-seconds", "0"),
)
ONE = (*TINY, "--models", "hnn", "--seeds", "0")


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    said: str
    seconds: float


class Running:
    """A command under way; what it says goes to a file."""

    def __init__(self, command: list[str], cwd: Path, env: dict[str, str]):
        self.log = cwd / f"said-{random.randrange(10**9)}.txt"
        with self.log.open("w") as file:
            # as in a terminal: a process group of its own, which Ctrl-C reaches as a whole
            self.process = subprocess.Popen(command, cwd=cwd, env=env, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        self.since = time.monotonic()

    def wait(self, timeout: float = 300) -> Done:
        """Waits for its end."""
        code = self.process.wait(timeout)
        return Done(code, self.log.read_text(encoding="utf-8", errors="replace"), time.monotonic() - self.since)

    def until(self, holds: Callable[[], object], timeout: float = 120) -> None:
        """Waits for something to happen while it runs; it is an error if it ends before."""
        deadline = time.monotonic() + timeout
        while not holds():
            assert self.process.poll() is None, f"ended too early: {self.log.read_text()}"
            assert time.monotonic() < deadline, f"nothing happened: {self.log.read_text()}"
            time.sleep(0.002)

    def workers(self) -> list[psutil.Process]:
        """Its worker processes."""
        try:
            children = psutil.Process(self.process.pid).children(recursive=True)
            return [p for p in children if "spawn_main" in " ".join(p.cmdline())]
        except psutil.Error:
            return []

    def kill(self) -> None:
        """SIGKILL for the grid alone: its workers must notice."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def press_ctrl_c(self) -> None:
        """SIGINT for the whole process group of the terminal."""
        os.killpg(self.process.pid, signal.SIGINT)


class Scene:
    """A folder with the packages of this checkout, extra rows, and a results folder."""

    def __init__(self, root: Path, rows: dict[str, str] | None = None, warm: Path | None = None):
        self.root = root
        for package in ("systems", "models", "bench"):
            shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
        for name, content in (rows or {}).items():
            (root / name).write_text(content, encoding="utf-8")
        if warm is not None:
            shutil.copytree(warm, root / "results" / "cache")

    @classmethod
    def at(cls, root: Path) -> "Scene":
        """One that is there."""
        scene = cls.__new__(cls)
        scene.root = root
        return scene

    @property
    def output(self) -> Path:
        return self.root / OUTPUT

    def start(self, *arguments: str, prefix: tuple[str, ...] = (), **env: str) -> Running:
        """Starts `python -m bench ...`."""
        return Running([*prefix, sys.executable, "-m", "bench", *arguments], self.root, os.environ | {"PYTHONPATH": str(self.root)} | env)

    def bench(self, *arguments: str, prefix: tuple[str, ...] = (), **env: str) -> Done:
        """Runs it to its end."""
        return self.start(*arguments, prefix=prefix, **env).wait()

    def run(self, *arguments: str) -> Done:
        """`bench run smoke` with these options, which must succeed."""
        done = self.bench("run", "smoke", *arguments)
        assert done.code == 0, done.said
        return done

    def outcome(self, output: Path | None = None) -> dict[str, tuple]:
        """All that two equal runs must have equal to the bit: status, metrics, parameters, curves."""
        _, rows, holes = grid.read_grid(output or self.output)
        assert not holes, holes
        return {r["run"]: (r["status"], repr(sorted(r["metrics"].items())), r["parameters"], r["curves"]["sha256"]) for r in rows}

    def rows(self) -> dict[str, dict]:
        """Results by run."""
        return {r["run"]: r for r in grid.read_grid(self.output)[1]}

    def checkpoints(self) -> list[Path]:
        """Whole checkpoints of all runs."""
        return [p for p in self.output.glob(f"runs/*/{results.CHECKPOINTS}/[0-9]*") if p.is_dir()]

    def partial(self) -> list[Path]:
        """What interrupted writes left under other names."""
        return list((self.root / "results").rglob(".*.partial"))


def child(row: str) -> str:
    """The name of a run without its hash: system-model-seed."""
    return row.rpartition("-")[0]


def flip(path: Path, random: random.Random) -> None:
    """Changes one bit of one byte."""
    content = bytearray(path.read_bytes())
    place = random.randrange(len(content))
    content[place] ^= 1 << random.randrange(8)
    path.write_bytes(content)


def truncate(path: Path, random: random.Random) -> None:
    """Cuts the end off."""
    content = path.read_bytes()
    path.write_bytes(content[: random.randrange(len(content))])


def zero(path: Path, random: random.Random) -> None:
    """A block of zeros, as a crashed file system leaves."""
    content = bytearray(path.read_bytes())
    place = random.randrange(len(content))
    length = min(512, len(content) - place)
    content[place : place + length] = b"\0" * length
    path.write_bytes(content)


def delete(path: Path, random: random.Random) -> None:
    """Removes the file."""
    path.unlink()


DAMAGES = (flip, truncate, zero, delete)
