"""Ended at any moment, by anyone: nothing that was finished is lost, and the rest ends in the same bits."""

import os
import shutil
import subprocess
import time

import psutil
import pytest
from scene import ONE, ROOT, TINY, Running, Scene, child

from bench import grid, locks, results

LEAVE = 5.0  # s to end in, when asked


def at_work(scene: Scene):
    """Whether a run has a checkpoint and no result yet."""
    return lambda: [p for p in scene.checkpoints() if not (p.parents[1] / results.RESULT).exists()]


def one_done_another_at_work(scene: Scene):
    """Whether there is something to keep and something to go on with."""
    return lambda: list(scene.output.glob("runs/*-s0-*/result.json")) and at_work(scene)()


def finished(scene: Scene) -> dict[str, dict]:
    """Results that are there, but for what is measured later."""
    there = [results.read(p.parent) for p in scene.output.glob("runs/*/result.json")]
    return {r["run"]: {name: value for name, value in r.items() if name not in ("speed", "sha256")} for r in there}


@pytest.mark.fault("F3", "SIGKILL at ≥ 10 random times, among them inside a save; resume", "result equals the uninterrupted one")
def test_killed_at_random_times_a_run_ends_in_the_same_bits(scene, expected, chance, short, measured):
    kills = 4 if short else 12
    inside, at, resumed = 0, [], 0
    for number in range(kills):
        running = scene.start("run", "smoke", *ONE, "--workers", "1")
        if number % 3 == 0:  # inside a save: in the moment in which one is under way, the worker itself
            running.until(lambda: list(scene.output.glob("runs/*/checkpoints/.*.partial")))
            for worker in running.workers():
                worker.kill()
            running.kill()
            inside += bool(list(scene.output.glob("runs/*/checkpoints/.*.partial")))
        else:
            before = {p.name for p in scene.checkpoints()}
            running.until(lambda before=before: {p.name for p in scene.checkpoints()} - before)
            time.sleep(chance.uniform(0, 0.3))
            running.kill()
        at.append(max((int(p.name) for p in scene.checkpoints()), default=0))
        resumed += "taken up again" in running.wait().said
        if (scene.output / "runs").exists() and list(scene.output.glob("runs/*hnn*/result.json")):
            break  # it was quicker than the killer
    scene.run(*ONE, "--workers", "1")
    outcome = scene.outcome()
    assert len(outcome) == 5
    assert {run: bits for run, bits in expected.items() if run in outcome} == outcome
    assert not scene.partial(), "an interrupted write is left"
    assert inside >= 1
    assert len(at) >= min(kills, 4 if short else 10)
    (row,) = [r for r in scene.rows().values() if r["model"] == "hnn"]
    assert row["provenance"]["resumed_at"]
    measured(f"{len(at)} kills at steps {', '.join(map(str, at))} of 200, {inside} inside a save; {resumed} times taken up again; bits equal")


@pytest.mark.fault("F4", "SIGTERM, Ctrl-C of `make bench`", "as above; a second run does only the rest")
def test_asked_to_end_it_leaves_at_once_and_goes_on_with_the_rest(tmp_path, warm, expected, short, measured):
    said, seconds = [], []
    make = ["make", "smoke", "OPTIONS=" + " ".join(TINY)]
    for number, name in enumerate(("SIGINT",) if short else ("SIGINT", "SIGTERM")):
        scene = Scene(tmp_path / name, warm=warm)
        shutil.copy(ROOT / "Makefile", scene.root)
        for file in ("requirements.lock", "pyproject.toml"):
            shutil.copy2(ROOT / file, scene.root)
        os.symlink(ROOT / ".venv", scene.root / ".venv")
        env = os.environ | {"PYTHONPATH": str(scene.root)}
        running = Running(make, scene.root, env)
        running.until(one_done_another_at_work(scene))
        start = time.monotonic()
        if name == "SIGINT":
            running.press_ctrl_c()
        else:
            running.process.terminate()
        done = running.wait()
        seconds.append(time.monotonic() - start)
        assert done.code != 0
        kept = finished(scene)
        assert kept
        assert "Go on with: " in done.said
        assert f"Error {(130, 143)[number]}" in done.said, done.said
        again = Running(make, scene.root, env).wait()
        assert again.code == 0, again.said
        assert "taken up again at step" in again.said
        assert scene.outcome() == expected
        assert {run: result for run, result in finished(scene).items() if run in kept} == kept, "a finished run was done again"
        said.append(f"{name}: {seconds[-1]:.1f} s, exit code {(130, 143)[number]}, {len(kept)} finished runs kept")
    assert max(seconds) <= LEAVE
    measured("; ".join(said))


@pytest.mark.fault("F6", "kill one worker of a grid", "only that run repeated; other bits unchanged")
def test_a_killed_worker_costs_its_run_alone(scene, expected, measured):
    running = scene.start("run", "smoke", *TINY)
    running.until(at_work(scene))
    running.workers()[0].kill()
    done = running.wait()
    assert done.code == 0, done.said
    assert scene.outcome() == expected
    attempts = {child(run): row["provenance"]["attempt"] for run, row in scene.rows().items()}
    repeated = [run for run, attempt in attempts.items() if attempt > 1]
    assert len(repeated) == 1, attempts
    assert f"{repeated[0].split('-')[1]} seed" in next(line for line in done.said.splitlines() if "it is tried again" in line)
    measured(f"{repeated[0]} took 2 attempts, {len(attempts) - 1} others 1; all bits equal")


@pytest.mark.fault("F10", "two `make bench` on one folder", "one waits or is refused by name; no run lost or doubled; stale lock recovered")
def test_two_grids_in_one_folder_do_not_meet(scene, expected, measured):
    first = scene.start("run", "smoke", *TINY)
    first.until(lambda: (scene.output / locks.NAME).exists() and locks.is_held(scene.output / locks.NAME))
    first.until(lambda: locks.owner(scene.output / locks.NAME))
    second = scene.bench("run", "smoke", *TINY)
    assert second.code == 2
    assert f"process {first.process.pid} on " in second.said
    first.until(at_work(scene))
    first.kill()  # its lock file stays
    assert (scene.output / locks.NAME).exists()
    third = scene.bench("run", "smoke", *TINY)
    assert third.code == 0, third.said
    assert scene.outcome() == expected
    assert len(list((scene.output / "runs").iterdir())) == len(expected)
    measured(f"the second is refused in {second.seconds:.1f} s and names its process; the lock of a killed one is taken over; {len(expected)} runs")


def going_on(root) -> list[psutil.Process]:
    """Processes that work in a folder."""
    return [p for p in psutil.process_iter(["cwd", "name"]) if p.info["cwd"] and p.info["cwd"].startswith(str(root))]


@pytest.mark.fault("F20", "Ctrl-C during set-up, then `make bench`", "set-up completes; no half-made environment is believed")
def test_an_interrupted_set_up_is_done_again(tmp_path, short, measured):
    root = tmp_path / "clone"
    files = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in files.stdout.splitlines():
        if not name.startswith(("results/", "tests/")) and (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
    env = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PYTHONPATH")}
    moments = {
        "while the folder is made": lambda: (root / ".venv").exists(),
        "while pip installs uv": lambda: list((root / ".venv").glob("lib/*/site-packages/pip")),
        "while packages are installed": lambda: (
            any(p.info["name"] == "uv" for p in going_on(root)) or list((root / ".venv").glob("lib/*/site-packages/numpy*"))
        ),
    }
    for moment in list(moments)[: 1 if short else None]:
        running = Running(["make", "setup"], root, env)
        running.until(moments[moment], timeout=300)
        running.press_ctrl_c()
        assert running.wait().code != 0
        assert not (root / ".venv" / ".ready").exists(), moment
        deadline = time.monotonic() + LEAVE
        while going_on(root):
            assert time.monotonic() < deadline, f"something goes on: {going_on(root)}"
            time.sleep(0.1)
        asked = subprocess.run(["make", "-n", "bench"], cwd=root, env=env, capture_output=True, text=True, check=True)
        assert "-m venv" in asked.stdout, "a half-made environment would be believed"
    if short:
        measured("interrupted once: the next make begins the set-up anew")
        return
    start = time.monotonic()
    tiny = " ".join((*ONE, "--steps", "20", "--models", "second_order_ode"))
    done = Running(["make", "smoke", f"OPTIONS={tiny}"], root, env).wait(600)
    assert done.code == 0, done.said
    assert (root / ".venv" / ".ready").exists()
    assert not grid.read_grid(root / "results/latest/smoke")[2]
    measured(f"interrupted {', '.join(moments)}; then set-up and a grid of 5 runs in {time.monotonic() - start:.0f} s")
