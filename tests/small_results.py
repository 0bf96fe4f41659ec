"""A small folder of results by the real writers, in which nothing was trained: what commands that look after files are tried on."""

import json
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import systems
from bench import cached, results, sealed
from bench.presets import PRESETS

ROOT = Path("results")
SYSTEM = "relativistic_particle"
FINISHED = "relativistic_particle-hnn-s0-0123456789ab"
BROKEN_OFF = "relativistic_particle-hnn-s1-0123456789ab"
FORGOTTEN = "relativistic_particle-hnn-s2-0123456789ab"  # no grid names it


@dataclass(frozen=True)
class SmallResults:
    """Where the parts of it are."""

    output: Path = ROOT / "latest" / "smoke"
    reference: Path = ROOT / "reference" / "smoke"
    data_set: Path = ROOT / "cache" / "data" / "not made yet"
    program: Path = ROOT / "cache" / "xla" / "jit_step-0123-cache"

    def run(self, name: str = FINISHED) -> Path:
        return self.output / "runs" / name


def write_result(folder: Path, **changes) -> None:
    """A result as a worker writes it, and its curves."""
    code = {"training": 1, "evaluation": 1, "rows": "r", "parts": {}}
    made = {"commit": None, "dirty": None, "device": "cpu", "platform": "Linux", "versions": {"jax": "0", "python": "3"}}
    result = {"run": folder.name, "system": SYSTEM, "model": "hnn", "seed": 0, "status": "finished"}
    result |= {"configuration": {"recording": {"starts": 1}}, "metrics": {}, "speed": {}, "provenance": code | made}
    results.write(folder, result | changes, {"energy_error": np.zeros(3)})


def write_arrays(folder: Path) -> None:
    """A sealed folder, as parameters, checkpoints and data sets are."""
    sealed.seal(folder, lambda partial: np.savez(partial / "arrays.npz", x=np.arange(100.0)))


def write_grid(output: Path, *runs: str) -> None:
    preset = {"systems": [SYSTEM], "models": ["hnn"]}
    results.write_sealed(output / results.GRID, {"name": "smoke", "preset": preset, "runs": list(runs)})


def write() -> SmallResults:
    """In the current folder: a finished run and one that was broken off, the same committed, a data set, and a compiled program."""
    preset = PRESETS["smoke"]
    small = SmallResults(data_set=ROOT / "cache" / "data" / cached.key(SYSTEM, systems.get(SYSTEM, preset.constants), preset))
    for output in (small.output, small.reference):
        write_grid(output, FINISHED, BROKEN_OFF)
        write_result(output / "runs" / FINISHED)
    write_arrays(small.run() / results.PARAMETERS)
    write_arrays(small.run(BROKEN_OFF) / results.CHECKPOINTS / f"{20:012d}")
    write_arrays(small.data_set)
    for folder in (small.output, small.run(), small.data_set.with_name(f"{small.data_set.name}.making")):
        folder.mkdir(exist_ok=True)
        (folder / ".lock").write_text(json.dumps({"process": 1, "machine": "here", "since": "then"}))
    small.program.parent.mkdir()
    small.program.write_bytes(zlib.compress(bytes(range(256)) * 50))
    return small


def leave_behind(small: SmallResults) -> dict[str, list[Path]]:
    """What nothing needs any more, by kind, at all the places where it comes to lie."""
    write_result(small.run(FORGOTTEN))
    write_arrays(small.run(FORGOTTEN) / results.PARAMETERS)
    write_arrays(small.run() / results.CHECKPOINTS / f"{20:012d}")
    cache = ROOT / "cache"
    partial = [
        small.output / ".grid.json.0a1b2c3d.partial",
        small.run() / ".parameters.0a1b2c3d.partial",
        cache / "data" / ".wave-1.0a1b2c3d.partial",
    ]
    old = [cache / "wave-0123456789abcdef.npz", cache / "wave-0123456789abcdef.lock"]
    damaged = [small.run(BROKEN_OFF) / "result.json.damaged"]
    for path in (*partial[1:], cache / "data" / "wave-0123456789abcdef", cache / "data" / "wave-0123456789abcdef.making"):
        path.mkdir()
    for path in (partial[0], partial[1] / "arrays.npz", *old, *damaged, cache / "data" / "wave-0123456789abcdef.making" / ".lock"):
        path.write_bytes(b"left")
    return {
        "runs that no grid.json names": [small.run(FORGOTTEN)],
        "checkpoints of finished runs": [small.run() / results.CHECKPOINTS],
        "interrupted writes": partial,
        "damaged files set aside": damaged,
        "data sets of an older layout": old,
        "data sets that no preset asks for": [cache / "data" / "wave-0123456789abcdef", cache / "data" / "wave-0123456789abcdef.making"],
    }


def flip(path: Path, at: int = -10) -> None:
    """Changes one byte of a file."""
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(bytes(content))
