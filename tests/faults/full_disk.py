"""Run inside a mount namespace of its own by test_disk.py: what happens when the results' disk is full, and what once there is space again."""

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from scene import ONE, Done, Scene

from bench import grid, locks, results, sealed

SIZE = "6m"
ARGUMENTS = ("run", "smoke", *ONE, "--workers", "1")


def fill(folder: Path) -> Path:
    """Takes all space that is left."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"\1" * 4096)
    return ballast


def check_whole(scene: Scene) -> int:
    """Everything under a final name must be whole; returns how many files and folders that are."""
    count = 0
    for path in scene.output.rglob("result.json"):
        results.read(path.parent)
        count += 1
    for name in ("checkpoints/[0-9]*", "parameters"):
        for folder in scene.output.glob(f"runs/*/{name}"):
            sealed.unseal(folder)
            count += 1
    for path in scene.output.glob("*.*"):
        if path.name == "grid.json":
            grid.read_manifest(scene.output)
        elif not path.name.startswith("."):
            assert path.read_bytes().endswith(b"\n"), path
    return count


def with_full_disk(scene: Scene, when: Callable[[], object] | None, *arguments: str) -> Done:
    """A command on a disk that is full from the start, or from some moment on; afterwards there is space again."""
    latest = scene.output.parent
    ballast = fill(latest) if when is None else None
    running = scene.start(*arguments)
    if ballast is None:
        running.until(when or bool)
        ballast = fill(latest)
    done = running.wait()
    assert done.code == 1, done.said
    assert "no space left on the disk" in done.said, done.said
    assert "go on with: " in done.said
    assert "Traceback" not in done.said, done.said
    check_whole(scene)
    ballast.unlink()
    return done


def main(root: str) -> None:
    """Fills the disk in a checkpoint, a result and a table; prints what was found as JSON."""
    scene = Scene.at(Path(root))
    latest = scene.output.parent
    latest.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(latest)], check=True)
    found: dict = {}

    done = with_full_disk(scene, lambda: len(scene.checkpoints()) > 1, *ARGUMENTS)
    assert "no checkpoint written (No space left on device)" in done.said, done.said
    found["checkpoint"] = max(int(p.name) for p in scene.checkpoints())
    done = scene.bench(*ARGUMENTS)
    assert done.code == 0, done.said
    assert f"taken up again at step {found['checkpoint']}" in done.said, done.said
    found["outcome"] = scene.outcome()
    assert not scene.partial(), scene.partial()

    (run,) = scene.output.glob("runs/*-hnn-*")
    (run / results.RESULT).unlink()
    with_full_disk(scene, lambda: locks.is_held(run / locks.NAME), *ARGUMENTS)
    assert not (run / results.RESULT).exists()
    done = scene.bench(*ARGUMENTS)
    assert done.code == 0, done.said
    assert "step" not in done.said.replace("steps", ""), "it was trained again"
    assert scene.outcome() == found["outcome"]

    (scene.output / "results.csv").unlink()
    with_full_disk(scene, None, "table", str(scene.output))
    assert not (scene.output / "results.csv").exists()
    assert scene.bench("table", str(scene.output)).code == 0
    found["whole"] = check_whole(scene)
    assert not scene.partial(), scene.partial()
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
