"""What a person sees while a grid runs: every run is counted once, and the time left is in proportion to what is left."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from bench import progress
from bench.grid import Cell
from bench.presets import Preset
from bench.worker import Event, Job

USUAL = Preset(systems=("wave",), models=("hnn",), seeds=(0, 1))


def follow(presets: list[Preset], clock: list[float], monkeypatch) -> tuple[progress.Progress, list[Job], io.StringIO]:
    """Jobs of one cell under these presets, followed by a clock that is told the time."""
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    jobs = [Job("run", Cell(preset, "wave", "hnn"), preset.seeds, Path("output"), Path("cache")) for preset in presets]
    said = io.StringIO()
    return progress.Progress("a grid", jobs, 1, Console(file=said, width=200)), jobs, said


def finish(following: progress.Progress, job: Job, seed: int, clock: list[float], seconds: float) -> None:
    following.tell(job, Event("started", seed))
    clock[0] += seconds
    following.tell(job, Event("done", seed, status="finished"))


def test_trainings_of_one_model_that_differ_in_length_or_schedule_are_counted_apart(monkeypatch):
    clock = [0.0]
    presets = [USUAL, replace(USUAL, schedule="trapezoidal"), replace(USUAL, steps=24_000), replace(USUAL, steps=24_000, sampling="fresh")]
    following, jobs, said = follow(presets, clock, monkeypatch)
    assert len(following.state) == 2 * len(presets)
    for job in jobs:
        finish(following, job, 1, clock, 1.0)
    lines = said.getvalue().splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "[1/8] wave x hnn seed 1",
        "[2/8] wave x hnn (trapezoidal) seed 1",
        "[3/8] wave x hnn (24000 steps) seed 1",
        "[4/8] wave x hnn (fresh, 24000 steps) seed 1",
    ]


def test_two_that_look_alike_can_run_at_once(monkeypatch):
    clock = [0.0]
    following, (one, other), _ = follow([USUAL, replace(USUAL, data_seed=1)], clock, monkeypatch)
    for job in (one, other):
        following.tell(job, Event("started", 0))
    following.tell(one, Event("done", 0, status="finished"))
    following.tell(other, Event("step", 0, 250, 0.1))
    following.tell(other, Event("done", 0, status="finished"))
    assert list(following.state.values()) == ["done", "waiting", "done", "waiting"]


def test_the_time_left_of_a_row_that_was_not_run_yet_is_in_proportion_to_its_steps(monkeypatch):
    clock = [0.0]
    following, (usual, _), _ = follow([USUAL, replace(USUAL, seeds=(0,), steps=60_000)], clock, monkeypatch)
    finish(following, usual, 0, clock, 12.0)
    assert following.left() == pytest.approx(12.0 + 120.0)
    finish(following, usual, 1, clock, 12.0)
    assert following.left() == pytest.approx(120.0)
