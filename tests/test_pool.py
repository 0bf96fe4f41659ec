"""Worker processes: one that dies, hangs, grows or raises costs its run alone, and none is left behind."""

import errno
import os
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from bench import grid, pool, worker
from bench.presets import PRESETS
from bench.worker import Event, Job

SMOKE = replace(PRESETS["smoke"], time_limit=60.0, memory_limit=None)
GROWN = "import time; held = b'x' * 700_000_000; time.sleep(600)"


@dataclass(frozen=True)
class Play(grid.Cell):
    """A cell whose seeds, in a worker, do something else than train."""

    acts: tuple[str, ...] = ()
    scratch: Path = Path()

    def __reduce__(self):
        return arrive, (self.preset, self.system, self.model, self.acts, self.scratch)


def arrive(*cell) -> Play:
    """Is called where a job is read: in the worker."""
    worker.perform = perform
    return Play(*cell)


def perform(job, send) -> None:
    for seed in job.seeds:
        send(Event("started", seed))
        if job.cell.acts[seed] == "waits for another":
            for _ in range(14):
                send(Event("waiting", -1))
                time.sleep(1)
        if job.cell.acts[seed] == "says nothing more":
            send.__self__.close()
            time.sleep(600)
        if job.cell.acts[seed] == "is done, then hangs":
            send(Event("done", seed, status="finished", step=job.attempt, value=os.getpid()))
            time.sleep(600)
        act(job.cell.acts[seed], job.cell.scratch)
        send(Event("done", seed, status="finished", step=job.attempt, value=os.getpid()))


def act(what: str, scratch: Path) -> None:
    if what == "hangs":
        time.sleep(600)
    elif what == "grows":
        scratch.joinpath("held").write_text(str(len(b"x" * 700_000_000)))
        kept = np.ones(90_000_000)
        time.sleep(600 * kept[0])
    elif what == "has a child that grows":
        child = subprocess.Popen([sys.executable, "-c", GROWN])
        scratch.joinpath("child").write_text(str(child.pid))
        child.wait()
    elif what == "dies":
        os._exit(3)
    elif what == "dies once" and not scratch.joinpath("died").exists():
        scratch.joinpath("died").touch()
        os._exit(3)
    elif what == "raises":
        raise ValueError("an impossible thing")
    elif what == "finds the disk full":
        raise OSError(errno.ENOSPC, "No space left on device")
    elif what == "takes a second":
        time.sleep(1)


@pytest.fixture
def play(tmp_path):
    """Plays acts, one a seed, and says (what was told of each seed, everything that was told)."""

    def run(*acts, workers=1, preset=SMOKE, more=()):
        preset = replace(preset, seeds=tuple(range(len(acts))))
        cells = [Play(preset, "wave", "lnn", acts, tmp_path), *(Play(SMOKE, "wave", "hnn", (other,), tmp_path) for other in more)]
        told = []
        jobs = [Job("run", cell, tuple(range(len(cell.acts))), tmp_path, tmp_path) for cell in cells]
        pool.run(jobs, workers, tmp_path / "logs", lambda job, event: told.append((job.cell.model, event)))
        return {(model, event.seed): event for model, event in told if event.what == "done"}, told

    return run


@pytest.fixture(autouse=True)
def nobody_is_left_behind():
    yield
    left = [p for p in psutil.Process().children(recursive=True) if "spawn_main" in " ".join(p.cmdline())]
    assert not [p for p in left if p.status() != psutil.STATUS_ZOMBIE]


def test_what_goes_well_is_done_at_the_first_attempt(play):
    done, _ = play("well", "takes a second", more=["well"], workers=2, preset=replace(SMOKE, time_limit=None, memory_limit=None))
    assert {(key, event.status, event.step) for key, event in done.items()} == {
        (("lnn", 0), "finished", 1),
        (("lnn", 1), "finished", 1),
        (("hnn", 0), "finished", 1),
    }


def test_a_worker_that_dies_is_replaced_and_costs_its_run_alone(play):
    done, told = play("well", "dies", "well", more=["well"])
    assert {key: event.status for key, event in done.items()} == {
        ("lnn", 0): "finished",
        ("lnn", 1): "failed",
        ("lnn", 2): "finished",
        ("hnn", 0): "finished",
    }
    why = done["lnn", 1].why
    assert why.startswith("its worker died with exit code 3, attempt 2 (see ")
    assert why.endswith("worker-0.log)")
    notes = [event.why for _, event in told if event.what == "note"]
    assert notes == ["its worker died with exit code 3: it is tried again"]
    assert len({event.value for event in done.values() if event.status == "finished"}) == 2


def test_a_run_whose_worker_died_once_is_done_at_the_second_attempt(play):
    done, _ = play("well", "dies once", "well")
    assert [(done["lnn", seed].status, done["lnn", seed].step) for seed in (0, 1)] == [("finished", 1), ("finished", 2)]
    assert done["lnn", 2].status == "finished"


def test_a_run_that_raises_is_tried_twice_and_says_what_was_raised(play):
    done, told = play("raises", "raises", more=["well"], workers=2)
    for seed in (0, 1):
        assert done["lnn", seed].status == "failed"
        assert "ValueError: an impossible thing, attempt 2 (see " in done["lnn", seed].why
    assert done["hnn", 0].status == "finished"
    assert sum(event.what == "started" for model, event in told if model == "lnn") == 4


def test_a_run_over_its_time_limit_is_a_timeout_and_not_tried_again(play):
    start = time.monotonic()
    done, told = play("hangs", "well", preset=replace(SMOKE, time_limit=12.0), more=["well"])
    assert 12 < time.monotonic() - start < 60
    assert (done["lnn", 0].status, done["lnn", 0].why.partition(" (")[0]) == ("timeout", "over its time limit of 12 s, attempt 1")
    assert done["lnn", 1].status == done["hnn", 0].status == "finished"
    assert not [event for _, event in told if event.what == "note"]


def test_the_time_limit_is_that_of_a_run_and_not_of_all_seeds_together(play):
    done, _ = play(*["takes a second"] * 13, preset=replace(SMOKE, time_limit=12.0))
    assert {event.status for event in done.values()} == {"finished"}


def test_waiting_for_what_another_process_makes_is_not_counted(play):
    done, _ = play("waits for another", preset=replace(SMOKE, time_limit=12.0))
    assert done["lnn", 0].status == "finished"


def test_a_worker_that_closed_its_end_is_ended_and_its_run_tried_again(play):
    done, _ = play("says nothing more", "well")
    assert done["lnn", 0].status == "failed"
    assert "its worker died with exit code -9, attempt 2" in done["lnn", 0].why
    assert done["lnn", 1].status == "finished"


def test_a_run_that_is_done_when_its_worker_is_ended_stays_done(play):
    done, _ = play("is done, then hangs", "well", preset=replace(SMOKE, time_limit=12.0))
    assert done["lnn", 0].status == "finished"
    assert done["lnn", 1].status == "timeout"


def test_a_done_that_is_still_in_the_pipe_when_its_worker_is_ended_counts(play, monkeypatch):
    """The worker is found over its limit in the moment in which it has said that it is done."""
    beyond_limits, listen = pool._Worker.beyond_limits, pool._Worker.listen
    ended = []

    def late(worker):
        if not ended and worker.job is not None and worker.job.cell.model == "lnn" and worker.left[0] == 0:
            deadline = time.monotonic() + 60
            while not worker.connection.poll() and time.monotonic() < deadline:
                time.sleep(0.01)
            ended.append(1)
            time.sleep(1)  # started and done both lie in the pipe by now
            return "timeout", "over its time limit"
        return beyond_limits(worker)

    monkeypatch.setattr(pool._Worker, "beyond_limits", late)
    monkeypatch.setattr(pool._Worker, "listen", lambda worker: listen(worker) if ended else iter(()))
    done, told = play("well", "well")
    assert ended
    assert {event.status for event in done.values()} == {"finished"}
    assert [event.seed for _, event in told if event.what == "done"] == [0, 1]


@pytest.mark.parametrize("what", ["grows", "has a child that grows"])
def test_a_run_over_its_memory_limit_is_failed_and_ended_with_its_children(play, tmp_path, what):
    done, _ = play(what, "well", preset=replace(SMOKE, memory_limit=0.6))
    assert done["lnn", 0].status == "failed"
    assert done["lnn", 0].why.startswith("over its memory limit of 0.6 GiB (")
    assert done["lnn", 1].status == "finished"
    if (tmp_path / "child").exists():
        pid = int((tmp_path / "child").read_text())
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_full_disk_ends_everything(play):
    with pytest.raises(pool.NoSpace):
        play("well", "finds the disk full", "well", more=["hangs"], workers=2)


def test_whatever_ends_the_grid_leaves_no_worker_behind(tmp_path):
    def interrupted(job, event):
        raise KeyboardInterrupt

    jobs = [Job("run", Play(SMOKE, "wave", "lnn", ("hangs",), tmp_path), (0,), tmp_path, tmp_path) for _ in range(2)]
    with pytest.raises(KeyboardInterrupt):
        pool.run(jobs, 2, tmp_path / "logs", interrupted)


def test_asked_to_end_twice_the_grid_leaves_no_worker_behind_either(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(pool._Worker, "ask_to_end", interrupted)  # the second one comes during the farewell
    jobs = [Job("run", Play(SMOKE, "wave", "lnn", ("hangs",), tmp_path), (0,), tmp_path, tmp_path) for _ in range(2)]
    with pytest.raises(KeyboardInterrupt):
        pool.run(jobs, 2, tmp_path / "logs", interrupted)


def test_a_job_that_cannot_even_begin_is_told_as_failed(tmp_path):
    broken = grid.Cell(replace(SMOKE, seeds=(0, 1)), "no_such_system", "lnn")
    told = []
    pool.run([Job("run", broken, (0, 1), tmp_path, tmp_path / "cache")], 1, tmp_path / "logs", lambda job, event: told.append(event))
    failures = {event.seed: event for event in told if event.what == "done"}
    assert set(failures) == {0, 1}
    assert all(event.status == "failed" and "unknown system 'no_such_system'" in event.why for event in failures.values())
