"""What it costs to lose nothing."""

import time
from dataclasses import replace

import jax
import numpy as np
import pytest

import models
import systems
from bench import cases, checkpoints, train
from bench.checkpoints import KEPT, Checkpoints
from bench.presets import PRESETS

LAPTOP = PRESETS["laptop"]


def trainer(model: str, system: str, **changes) -> train.Trainer:
    physics, preset = systems.get(system), replace(LAPTOP, **changes)
    return train.Trainer(models.get(model), physics, cases.drawn(physics, preset), preset)


@pytest.mark.full
@pytest.mark.fault("M1", "checkpoints of the laptop preset, two of every run", "≤ 50 MB in all")
def test_checkpoints_of_the_laptop_preset_are_small(tmp_path, short, measured):
    total = count = 0
    for system in LAPTOP.systems[:1] if short else LAPTOP.systems:
        for model in LAPTOP.models:
            folder = tmp_path / system / model
            start = train.Snapshot(LAPTOP.steps, *trainer(model, system).start(0), history={})
            rows = -(-LAPTOP.steps // LAPTOP.chunk)
            names = ("step", "train_loss", *(["smallest_mass_eigenvalue"] if hasattr(start.model, "mass_matrix") else []))
            start = replace(start, history={name: train.column(name, [0.123456789] * rows) for name in names})
            Checkpoints([folder], 0.0, print)._write(folder, start)
            total += sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) * KEPT * len(LAPTOP.seeds)
            count += len(LAPTOP.seeds)
    assert total <= 50e6 * count / 63
    measured(f"{total / 1e6:.1f} MB, two checkpoints of each of {count} runs (they are removed when a run is finished)")


@pytest.mark.full
@pytest.mark.fault("M2", "a training interrupted half-way and taken up again, with a checkpoint every 30 s", "resume overhead ≤ 2 % of training time")
def test_taking_up_again_costs_little(tmp_path, short, measured):
    """Whole and interrupted trainings in turn, in one process: what starting a process costs is the same for both."""
    steps = 1000 if short else LAPTOP.steps
    train_model = trainer("neural_ode", "double_pendulum", steps=steps)
    half = steps // 2
    next(train_model.chunks((0,)))  # compiles
    whole, parts, write, read = [], [], [], []
    for number in range(1 if short else 2):
        start = time.perf_counter()
        (undisturbed,) = train_model((0,))
        whole.append(time.perf_counter() - start)
        folder, done = tmp_path / str(number), []
        keeper = Checkpoints([folder], LAPTOP.checkpoint_seconds, print, lambda done=done: done.append(0) or len(done) * LAPTOP.chunk >= half)
        start = time.perf_counter()
        with pytest.raises(checkpoints.Interrupted):
            train_model((0,), keeper=keeper)
        (resumed,) = train_model((0,), keeper=Checkpoints([folder], LAPTOP.checkpoint_seconds, print))
        parts.append(time.perf_counter() - start)
        start = time.perf_counter()
        snapshots = Checkpoints([folder], 0.0, print).resume([train.Snapshot(0, *train_model.start(0), history={})])
        read.append(time.perf_counter() - start)
        start = time.perf_counter()
        Checkpoints([folder], 0.0, print)._write(folder, snapshots[0])
        write.append(time.perf_counter() - start)
        assert checkpoints.digest(resumed.model) == checkpoints.digest(undisturbed.model)
    training = min(whole) * LAPTOP.steps / steps
    overhead = (min(write) + min(read)) / training
    difference = min(parts) / min(whole) - 1
    steady = min(write) / LAPTOP.checkpoint_seconds
    assert overhead <= 0.02
    assert steady <= 0.02
    measured(
        f"writing {1e3 * min(write):.0f} ms + reading {1e3 * min(read):.0f} ms = {overhead:.2%} of a training of {training:.0f} s (all told "
        f"{difference:+.1%}, noise included); writing every 30 s takes {steady:.2%}"
    )
    jax.clear_caches()
    assert np.isfinite(undisturbed.validation_loss)
