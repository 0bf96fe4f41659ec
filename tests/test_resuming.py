"""A training that was interrupted ends in the bits of one that was not, or says what it lost."""

import errno
import shutil
from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_results import flip

import models
import systems
from bench import cases, checkpoints, grid, results, train, worker
from bench.checkpoints import Checkpoints, Interrupted
from bench.presets import PRESETS
from bench.worker import Job

TINY = replace(PRESETS["laptop"], steps=18, chunk=4, warmup=2, batch=16)  # the last chunk is a short one
SEEDS = {"one seed": (3,), "two seeds in one program": (3, 5)}


@cache
def trainer() -> train.Trainer:
    physics = systems.get("double_pendulum")
    return train.Trainer(cases.with_width(models.get("delan"), 16), physics, cases.drawn(physics, TINY), TINY)


@cache
def undisturbed(seeds: tuple[int, ...]) -> list[tuple]:
    return [bits(trained) for trained in trainer()(seeds)]


def bits(trained: train.Trained) -> tuple:
    """All that must be the same when a training was interrupted."""
    leaves = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(trained.model)]
    history = {name: (values.dtype, values.tobytes()) for name, values in trained.history.items()}
    return leaves, history, np.float64(trained.validation_loss).tobytes(), trained.diverged_at


def train_until(chunks: int, seeds, folders, said=None) -> list[train.Trained]:
    """Trains on from what is in the folders, and is asked to end after so many chunks."""
    heard = []
    keeper = Checkpoints(folders, 0.0, (said if said is not None else []).append, lambda: len(heard) >= chunks * len(seeds))
    return trainer()(seeds, lambda *event: heard.append(event), keeper)


def interrupted(chunks: int, seeds, folders) -> None:
    with pytest.raises(Interrupted):
        train_until(chunks, seeds, folders)


def kept(folder) -> list[int]:
    return sorted(int(path.name) for path in folder.iterdir())


@pytest.mark.parametrize("seeds", SEEDS.values(), ids=SEEDS)
def test_a_training_taken_up_again_gives_the_bits_of_one_that_was_not_interrupted(tmp_path, seeds):
    folders = [tmp_path / str(seed) for seed in seeds]
    interrupted(1, seeds, folders)
    assert all(kept(folder) == [4] for folder in folders)
    interrupted(2, seeds, folders)
    said = []
    heard = []
    keeper = Checkpoints(folders, 0.0, said.append)
    trained = trainer()(seeds, lambda seed, step, loss: heard.append((seed, step)), keeper)
    assert heard == [(seed, step) for step in (16, 18) for seed in seeds]
    assert said == ["taken up again at step 12"]
    assert keeper.resumed_at == [4, 12]
    assert [bits(one) for one in trained] == undisturbed(seeds)


@pytest.mark.parametrize("seeds", SEEDS.values(), ids=SEEDS)
def test_checkpoints_change_no_bit(tmp_path, seeds):
    trained = trainer()(seeds, keeper=Checkpoints([tmp_path / str(seed) for seed in seeds], 0.0, print))
    assert [bits(one) for one in trained] == undisturbed(seeds)


def test_the_last_two_checkpoints_are_kept(tmp_path):
    interrupted(1, (3,), [tmp_path])
    assert kept(tmp_path) == [4]
    interrupted(3, (3,), [tmp_path])
    assert kept(tmp_path) == [12, 16]


@pytest.mark.parametrize("seeds", SEEDS.values(), ids=SEEDS)
def test_where_the_newest_checkpoint_is_damaged_the_one_before_is_used_and_it_is_said(tmp_path, seeds):
    folders = [tmp_path / str(seed) for seed in seeds]
    interrupted(3, seeds, folders)
    (array, *_) = [path for path in sorted((folders[-1] / f"{12:012d}").rglob("*")) if path.is_file() and path.name != "manifest.json"]
    flip(array, 0)
    said = []
    trained = train_until(10, seeds, folders, said)
    assert len(said) == 2
    assert "is damaged" in said[0]
    assert "an older checkpoint is looked for" in said[0]
    assert str(folders[-1] / f"{12:012d}") in said[0]
    assert said[1] == "taken up again at step 8"
    assert [bits(one) for one in trained] == undisturbed(seeds)


@pytest.mark.parametrize("damage", ["flipped", "truncated", "of another architecture"])
def test_without_a_whole_checkpoint_the_training_starts_and_it_is_said(tmp_path, damage):
    interrupted(3, (3,), [tmp_path])
    for folder in tmp_path.iterdir():
        if damage == "flipped":
            flip(folder / "manifest.json", 20)
        elif damage == "truncated":
            (folder / "manifest.json").write_text("")
        else:
            checkpoints.save(folder, {"w": jnp.zeros(3)})
    said = []
    trained = train_until(10, (3,), [tmp_path], said)
    assert len(said) == 3
    assert all("an older checkpoint is looked for" in line for line in said[:2])
    assert said[2] == "no whole checkpoint is left: the training starts anew"
    assert [bits(one) for one in trained] == undisturbed((3,))


def test_only_a_state_that_all_seeds_of_a_program_have_is_taken_up(tmp_path):
    folders = [tmp_path / "3", tmp_path / "5"]
    interrupted(3, (3, 5), folders)
    shutil.rmtree(folders[1] / f"{12:012d}")
    said = []
    trained = train_until(10, (3, 5), folders, said)
    assert said == ["taken up again at step 8"]
    assert [bits(one) for one in trained] == undisturbed((3, 5))


def test_runs_of_one_program_that_have_no_checkpoint_in_common_start_anew_and_it_is_said(tmp_path):
    folders = [tmp_path / "3", tmp_path / "5"]
    interrupted(3, (3, 5), folders)
    shutil.rmtree(folders[0] / f"{12:012d}")
    shutil.rmtree(folders[1] / f"{8:012d}")
    said = []
    trained = train_until(10, (3, 5), folders, said)
    assert said == ["the runs of one program have no checkpoint of the same step: the training starts anew"]
    assert [bits(one) for one in trained] == undisturbed((3, 5))


def test_no_old_checkpoint_goes_before_all_runs_have_the_new_one(tmp_path, monkeypatch):
    folders = [tmp_path / "3", tmp_path / "5"]
    interrupted(3, (3, 5), folders)
    save = checkpoints.save

    def only_the_first(folder, *rest):
        if folder.parent == folders[1]:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(folder, *rest)

    monkeypatch.setattr(checkpoints, "save", only_the_first)
    interrupted(1, (3, 5), folders)
    assert [kept(folder) for folder in folders] == [[8, 12, 16], [8, 12]]


@pytest.mark.parametrize("other", ["run", "step"])
def test_a_checkpoint_of_another_run_or_step_is_refused(tmp_path, other):
    folder = tmp_path / "run" / "checkpoints"
    interrupted(3, (3,), [folder])
    if other == "run":
        folder = shutil.copytree(folder, tmp_path / "other" / "checkpoints")
    else:
        (folder / f"{12:012d}").rename(folder / f"{16:012d}")
    said = []
    (trained,) = train_until(10, (3,), [folder], said)
    belongs = "it belongs to run at step 12, not to " + ("other at step 12" if other == "run" else "run at step 16")
    assert belongs in said[0]
    assert said[-1] == ("no whole checkpoint is left: the training starts anew" if other == "run" else "taken up again at step 8")
    assert bits(trained) == undisturbed((3,))[0]


def test_what_else_lies_among_the_checkpoints_is_left_alone(tmp_path):
    interrupted(2, (3,), [tmp_path])
    shutil.copytree(tmp_path / f"{8:012d}", tmp_path / f".{12:012d}.0a1b2c3d.partial")
    (tmp_path / "12.txt").write_text("mine")
    said = []
    train_until(10, (3,), [tmp_path], said)
    assert said == ["taken up again at step 8"]
    assert (tmp_path / "12.txt").exists()


def test_a_seed_that_diverged_stays_so_when_its_training_is_taken_up_again(tmp_path, monkeypatch):
    start = trainer().start

    def poisoned(seed):
        model, state, key = start(seed)
        return (jax.tree.map(lambda leaf: leaf * jnp.nan, model) if seed == 3 else model), state, key

    monkeypatch.setattr(trainer(), "start", poisoned)
    folders = [tmp_path / "3", tmp_path / "5"]
    interrupted(2, (3, 5), folders)
    lost, other = train_until(10, (3, 5), folders)
    assert (lost.diverged_at, list(lost.history["step"])) == (0, [4])
    assert bits(other) == undisturbed((3, 5))[1]


def test_without_space_training_goes_on_and_says_so(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints, "save", full)
    said = []
    (trained,) = train_until(10, (3,), [tmp_path], said)
    assert said == ["no checkpoint written (No space left on device): training goes on"] * 4
    assert bits(trained) == undisturbed((3,))[0]


def test_checkpoints_are_written_when_it_is_time_and_not_before(tmp_path, monkeypatch):
    now, written = [0.0], []
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(checkpoints, "save", lambda folder, *_: written.append(now[0]))
    keeper = Checkpoints([tmp_path], 30.0, print)
    for now[0] in (10.0, 29.0, 31.0, 50.0, 60.0, 61.0, 99.0):
        keeper.after_chunk(lambda: [train.Snapshot(4, *trainer().start(0), history={})])
    assert written == [31.0, 61.0, 99.0]


# runs --------------------------------------------------------------------------------------------------------------

RUN = {"systems": ("relativistic_particle",), "models": ("second_order_ode",), "seeds": (0,), "steps": 20, "chunk": 5, "data_share": 0.005}


def run(output, cache, seconds: float, hear=lambda event: None, attempt: int = 1):
    """(result of a run, what was saved) in this process."""
    cell, written, save = (
        grid.Cell(replace(PRESETS["smoke"], **RUN, checkpoint_seconds=seconds), *RUN["systems"], *RUN["models"]),
        [],
        checkpoints.save,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "save", lambda folder, *rest: (written.append(folder.name), save(folder, *rest)))
        worker.perform(Job("run", cell, (0,), output, cache, attempt), hear)
    return results.read(grid.folder(output, cell.run_id(0))), written


@pytest.fixture(scope="module")
def often(tmp_path_factory):
    """(cache, result of a run with a checkpoint after every chunk, what was saved)."""
    cache = tmp_path_factory.mktemp("cache")
    return cache, *run(tmp_path_factory.mktemp("often"), cache, 0.0)


def test_the_field_checkpoint_seconds_decides_how_many_checkpoints_a_run_writes(tmp_path, often):
    cache, usual, written = often
    assert written == [f"{step:012d}" for step in (5, 10, 15)] + ["parameters"]
    seldom, written = run(tmp_path, cache, 1e6)
    assert written == ["parameters"]
    assert not list(tmp_path.rglob("checkpoints"))
    assert (seldom["metrics"], seldom["parameters"]) == (usual["metrics"], usual["parameters"])
    assert (seldom["provenance"]["attempt"], seldom["provenance"]["resumed_at"]) == (1, [])


def test_a_run_asked_to_end_leaves_a_checkpoint_and_its_result_says_where_it_was_taken_up_again(tmp_path, often):
    cache, usual, _ = often

    def end(event):
        if event.what == "step" and event.step == 10:
            worker.ENDING.set()

    try:
        with pytest.raises(Interrupted):
            run(tmp_path, cache, 1e6, end)
    finally:
        worker.ENDING.clear()
    assert [path.name for path in tmp_path.glob("runs/*/checkpoints/*")] == [f"{10:012d}"]
    assert not list(tmp_path.rglob("result.json"))
    told = []
    result, _ = run(tmp_path, cache, 1e6, told.append, attempt=2)
    assert [event.why for event in told if event.what == "note"] == ["taken up again at step 10"]
    assert [event.step for event in told if event.what == "step"] == [15, 20]
    assert (result["metrics"], result["parameters"], result["curves"]) == (usual["metrics"], usual["parameters"], usual["curves"])
    assert (result["provenance"]["attempt"], result["provenance"]["resumed_at"]) == (2, [10])
    assert not list(tmp_path.rglob("checkpoints"))
