"""Models that die, hang, swallow memory or diverge cost their own runs, and are shown as what they are."""

import time

import numpy as np
import pandas as pd
import psutil
import pytest
from scene import TINY, Scene

from bench import grid

ROW = '''"""A faulty row: {what}."""

import os, subprocess, time
import jax.numpy as jnp
import numpy as np
from models import Local, Scalar, Settings, VectorField
from models._lagrangian import *
from models.second_order_ode import MODEL as Sound


class Faulty(Sound):
    """A second-order model, but for one thing."""

    settings = Settings(learning_rate=1e-2)

{body}

MODEL = Faulty
'''
DIES = """    def loss(self, batch, progress):
        os.kill(os.getpid(), 9)
"""
HANGS = """    def loss(self, batch, progress):
        subprocess.Popen(["sleep", "86399"])
        time.sleep(86399)
"""
SWALLOWS = """    def loss(self, batch, progress):
        held = [np.ones(2**27) for _ in range(4)]
        time.sleep(86399)
"""
NAN = """    def loss(self, batch, progress):
        return super().loss(batch, progress) + jnp.where(progress < 0.5, 0.0, jnp.nan)
"""
EXPLODES = """    def derivative(self, x, c):
        return super().derivative(x, c) * 0 + jnp.stack([x[1], 50 * x[1] ** 3 + 50])
"""
SINGULAR = '''"""A faulty row: a Lagrangian that is linear in the velocity, whose mass matrix is singular."""

from models.lnn import MODEL as Sound


class Singular(Sound):
    """L = N(q) v: no kinetic energy at all, so that the forward error has nothing to solve."""

    def lagrangian(self, q, v, c):
        return super().lagrangian(q, 0 * v, c) * v.sum()

    def loss(self, batch, progress):
        return self.log_forward_error(batch)


MODEL = Singular
'''


def rows(**bodies: str) -> dict[str, str]:
    """Files of faulty rows."""
    return {f"models/{name}.py": ROW.format(what=name, body=body) for name, body in bodies.items()}


def faulty(root, warm, model: str, content: dict[str, str], *more: str):
    """(scene, how it ended) of a grid of a faulty row and a sound one, one seed each."""
    scene = Scene(root, content, warm)
    options = (*TINY, "--models", model, "second_order_ode", "--seeds", "0", *more)
    return scene, scene.bench("run", "smoke", *options)


def sound_runs(scene: Scene) -> list[str]:
    return [r["model"] for r in grid.read_grid(scene.output)[1] if r["status"] == "finished"]


def line_of(scene: Scene, model: str) -> pd.Series:
    """What runs.csv says of the one run of a model."""
    (line,) = pd.read_csv(scene.output / "runs.csv").query("model == @model").to_dict("records")
    return line


SOUND = {"second_order_ode", "predict_zero", "best_constant", "truth", "truth_perturbed"}


@pytest.mark.fault("F7", "a worker that always dies", "`failed` after its retries, grid goes on, table shows the hole, exit 1")
def test_a_model_whose_worker_always_dies_is_failed(tmp_path, warm, measured):
    scene, done = faulty(tmp_path / "s", warm, "dies", rows(dies=DIES))
    assert done.code == 1, done.said
    assert set(sound_runs(scene)) == SOUND
    line = line_of(scene, "dies")
    assert line["status"] == "failed"
    assert "exit code -9, attempt 2" in line["why"]
    assert "dies (0 of 1 runs; 1 failed)" in (scene.output / "table.md").read_text()
    measured(f"failed after 2 attempts, {len(SOUND)} other runs finished, the table says “dies (0 of 1 runs; 1 failed)”, exit 1")


@pytest.mark.full
@pytest.mark.fault("F14", "worker hangs", "ended with its children at the limit, `timeout`")
def test_a_worker_that_hangs_is_ended_with_its_children(tmp_path, warm, measured):
    start = time.monotonic()
    scene, done = faulty(tmp_path / "s", warm, "hangs", rows(hangs=HANGS), "--time-limit", "25")
    assert done.code == 1, done.said
    assert set(sound_runs(scene)) == SOUND
    line = line_of(scene, "hangs")
    assert line["status"] == "timeout"
    assert "over its time limit of 25 s, attempt 1" in line["why"]
    assert not [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", "86399"]]
    measured(f"timeout at its limit of 25 s, its child ended, exit 1; the grid took {time.monotonic() - start:.0f} s")


@pytest.mark.full
@pytest.mark.fault("F15", "worker over its memory limit", "reported as such, grid goes on")
def test_a_worker_that_swallows_memory_is_ended(tmp_path, warm, measured):
    scene, done = faulty(tmp_path / "s", warm, "swallows", rows(swallows=SWALLOWS), "--memory-limit", "2")
    assert done.code == 1, done.said
    assert set(sound_runs(scene)) == SOUND
    line = line_of(scene, "swallows")
    assert line["status"] == "failed"
    assert "over its memory limit of 2 GiB" in line["why"]
    measured(f"{line['why'].partition(', attempt')[0]}; {len(SOUND)} other runs finished, exit 1")


@pytest.mark.full
@pytest.mark.fault("F11", "NaN loss; singular mass matrix", "`diverged` with the step within one chunk; counted, never averaged in")
def test_a_training_that_diverges_is_counted_and_not_averaged(tmp_path, warm, measured):
    scene = Scene(tmp_path / "s", rows(turns_nan=NAN) | {"models/singular.py": SINGULAR}, warm)
    done = scene.bench("run", "smoke", *TINY, "--models", "turns_nan", "singular", "second_order_ode", "--seeds", "0", "1")
    assert done.code == 0, done.said  # divergence is a result
    found = {(r["model"], r["seed"]): r for r in scene.rows().values()}
    steps = {}
    for model in ("turns_nan", "singular"):
        for seed in (0, 1):
            assert found[model, seed]["status"] == "diverged"
            steps[model] = found[model, seed]["diverged_at_step"]
    assert steps["turns_nan"] == 100  # exactly where progress reaches a half
    assert 0 <= steps["singular"] <= 10
    table = (scene.output / "table.md").read_text()
    for model in steps:
        assert f"{model} (0 of 2 runs; 2 diverged)" in table
    assert set(pd.read_csv(scene.output / "results.csv")["model"]) == SOUND
    assert done.said.count("diverged in training") == 4
    measured(f"NaN from step 100 on: diverged at {steps['turns_nan']}; singular: at {steps['singular']}; 4 holes in the table, none in results.csv")


@pytest.mark.full
@pytest.mark.fault("F12", "evaluation rollout blows up", "metrics defined, no crash")
def test_a_rollout_that_blows_up_has_metrics(tmp_path, warm, measured):
    scene, done = faulty(tmp_path / "s", warm, "explodes", rows(explodes=EXPLODES))
    assert done.code == 0, done.said
    (result,) = [r for r in scene.rows().values() if r["model"] == "explodes"]
    assert result["status"] == "finished"
    values = result["metrics"]
    assert not [name for name, value in values.items() if np.isnan(value)], values
    starts = result["configuration"]["recording"]["starts"]
    assert 0 < values["diverged_rollouts"] <= starts
    assert values["energy_error_last_mean"] == np.inf
    measured(f"{len(values)} metrics, none NaN; {values['diverged_rollouts']:.0f} of {starts} rollouts diverged, energy error ∞")
