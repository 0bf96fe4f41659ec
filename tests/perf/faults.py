"""Does the gate catch what it is there for? Injects faults, one at a time, into a copy of this checkout, and runs the gate on it.

`make perf-faults`. The copy is a clone of the last commit; each fault is an edit of its files, or of the environment.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Fault:
    """What is done to the copy, which part of the gate looks at it, and what the gate must say."""

    name: str
    inject: Callable[[Path], None]
    arguments: tuple[str, ...]
    told: str
    env: dict[str, str] = field(default_factory=dict)


def edit(file: str, before: str, after: str) -> Callable[[Path], None]:
    """Replaces a text that must be there."""

    def inject(root: Path) -> None:
        text = (root / file).read_text()
        if before not in text:
            raise SystemExit(f"{file} no longer says {before!r}: write the fault anew")
        (root / file).write_text(text.replace(before, after, 1))

    return inject


def figures(only: str) -> tuple[str, ...]:
    return ("--parts", "figures", "--only", only)


FAULTS = [
    Fault(
        "hidden width doubled in one model",
        edit("models/mlp.py", "settings = Settings(", "settings = Settings(shape=Shape(width=128), "),
        figures("training, mlp on relativistic_particle"),
        "flops is",
    ),
    Fault("a scan step doubled", edit("systems/double_pendulum.py", "substeps=48", "substeps=96"), figures("rollout, hnn on double"), "flops is"),
    Fault(
        "a recompilation per seed",
        edit(
            "bench/train.py",
            "chunk, (models, states, keys) = self.chunk,",
            'chunk, (models, states, keys) = jax.jit(lambda *a, length: self.chunk.__wrapped__(*a, length=length), static_argnames="length"),',
        ),
        figures("training, mlp on relativistic_particle"),
        "programs_of_more_seeds is",
    ),
    Fault(
        "sleep in a step",
        edit(
            "bench/train.py",
            "            models, states, losses = chunk(",
            "            __import__('time').sleep(0.001 * length)\n            models, states, losses = chunk(",
        ),
        ("--parts", "times", "--base", "HEAD", "--only", "training, hnn on relativistic_particle"),
        "against the base",
    ),
    Fault(
        "a benchmark renamed",
        edit("bench/cases.py", "euler_lagrange, 5 dof", "euler_lagrange, five dof"),
        figures("euler_lagrange,"),
        "no longer there",
    ),
    Fault("the baseline missing", lambda root: (root / "results/reference/perf.json").unlink(), figures("euler_lagrange,"), "make perf-baseline"),
    Fault("xdist on", lambda root: None, figures("euler_lagrange,"), "add -n 0", {"PYTEST_ADDOPTS": "-n 2"}),
    Fault(
        "accuracy worsened by a wrong sign",
        edit("models/_model.py", "(predicted - batch.rate)", "(predicted + batch.rate)"),
        ("--parts", "errors"),
        "field_error is",
    ),
]


def caught(fault: Fault) -> tuple[bool, str]:
    """Whether the gate fails and says why; and what it says."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "copy"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(root)], check=True)
        if (cache := ROOT / "results/cache").exists():
            shutil.copytree(cache, root / "results/cache")
        fault.inject(root)
        command = [sys.executable, "-m", "bench", "perf", "check", *fault.arguments]
        env = os.environ | {"PYTHONPATH": str(root)} | fault.env
        done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True)
        said = done.stdout + done.stderr
        return done.returncode != 0 and fault.told in said, said


def main(only: str = "") -> int:
    """Prints a line for each fault in whose name `only` occurs. 0 if all are caught."""
    results = []
    for fault in [fault for fault in FAULTS if only in fault.name]:
        found, said = caught(fault)
        results.append(found)
        print(f"{'caught' if found else 'MISSED'}: {fault.name}", flush=True)
        line = [line for line in said.splitlines() if fault.told in line] or said.strip().splitlines()[-3:]
        print(f"        {line[0] if found else line}", flush=True)
    print(f"{sum(results)} of {len(results)}")
    return 0 if all(results) else 1


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
