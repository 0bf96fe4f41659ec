"""Data sets are true, split by trajectory, and believed only while they are whole."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np
import pytest

import models
import systems
from bench import cached, data, identity, locks, sealed, train
from bench.presets import PRESETS
from systems.relativistic_particle import RelativisticParticle

TINY = replace(PRESETS["smoke"], data_share=0.01, horizon_share=0.02)
PARTICLE = "relativistic_particle"


@pytest.fixture(scope="module", params=["double_pendulum", "relativistic_particle", "wave"])
def made(request):
    system = systems.get(request.param)
    return system, data.generate(system, TINY)


def trajectories(split):
    return {split.x[i].tobytes() for i in range(len(split.x))}


def test_no_trajectory_is_in_two_splits(made):
    _, dataset = made
    splits = [trajectories(getattr(dataset, name)) for name in ("training", "validation", "test")]
    assert all(splits)
    assert len(set.union(*splits)) == sum(map(len, splits))


def test_no_start_of_the_evaluation_is_in_the_training_data(made):
    _, dataset = made
    if dataset.evaluation.x.shape[-1] == dataset.training.x.shape[-1]:
        starts = {x.tobytes() for x in dataset.evaluation.x[:, 0]}
        assert not starts & {x.tobytes() for x in dataset.training.x.reshape(-1, *dataset.training.x.shape[2:])}


def test_rates_are_the_true_field(made):
    system, dataset = made
    split = dataset.training
    expected = system.field(jnp.asarray(split.x[3, 2]), jnp.asarray(split.c[3]))
    np.testing.assert_allclose(split.rate[3, 2], expected, rtol=1e-12, atol=1e-12)


def test_everything_is_double_precision_until_it_is_cut_for_training(made):
    system, dataset = made
    assert dataset.training.x.dtype == dataset.evaluation.x.dtype == np.float64
    batch = train.cut(dataset.training, system, models.get("neural_ode"), segment=4)
    assert {a.dtype for a in batch} == {np.dtype(np.float32)}
    assert batch.x.shape[1] == 4


def test_segments_are_successive_frames_of_one_trajectory(made):
    system, dataset = made
    batch = train.cut(dataset.training, system, models.get("neural_ode"), segment=4)
    np.testing.assert_array_equal(batch.x[1], np.float32(dataset.training.x[0, 4:8]))
    per_trajectory = dataset.training.x.shape[1] // 4
    np.testing.assert_array_equal(batch.x[per_trajectory], np.float32(dataset.training.x[1, :4]))


def test_a_trajectory_that_loses_energy_for_no_reason_is_refused():
    @dataclass(frozen=True)
    class Rubbed(RelativisticParticle):
        def acceleration(self, x, c):
            return super().acceleration(x, c) - 1e-3 * x[1]

    with pytest.raises(data.DataError, match=r"breaks its balance H\(t\) = H\(0\) by .* of the energy scale"):
        data.generate(Rubbed(), TINY)


@pytest.fixture(scope="module")
def particle():
    return data.generate(systems.get(PARTICLE), TINY)


@pytest.fixture
def makings(particle, monkeypatch):
    """How often a data set was made, while making one takes no time."""
    times = []
    monkeypatch.setattr(data, "generate", lambda *_: (times.append(1), particle)[1])
    return times


def load(cache, said=None):
    return bits(cached.load(PARTICLE, systems.get(PARTICLE), TINY, cache, (said if said is not None else []).append))


def bits(dataset):
    return [(array.dtype, array.shape, array.tobytes()) for part in vars(dataset).values() for array in vars(part).values()]


def test_the_same_data_set_made_again_has_the_same_bits(particle):
    assert bits(data.generate(systems.get(PARTICLE), TINY)) == bits(particle)


def test_the_cache_gives_the_bits_that_were_made(makings, particle, tmp_path):
    said = []
    assert load(tmp_path, said) == load(tmp_path, said) == bits(particle)
    assert makings == [1]
    assert said == []
    assert len(bits(particle)) == 3 + 3 + 3 + 3


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "without its arrays", "a link", "without its manifest"])
def test_a_damaged_data_set_is_made_again_with_the_same_bits_and_it_is_said(makings, particle, tmp_path, damage):
    load(tmp_path)
    folder = tmp_path / "data" / cached.key(PARTICLE, systems.get(PARTICLE), TINY)
    path = folder / "arrays.npz"
    whole = path.read_bytes()
    if damage == "without its manifest":
        (folder / "manifest.json").unlink()
    elif damage == "without its arrays":
        path.unlink()
    elif damage == "a link":
        path.rename(tmp_path / "arrays.npz")
        path.symlink_to(tmp_path / "arrays.npz")
    else:
        path.write_bytes({"truncated": whole[:-100], "flipped": whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:], "empty": b""}[damage])
    said = []
    assert load(tmp_path, said) == bits(particle)
    assert makings == [1, 1]
    assert len(said) == 1
    assert str(folder) in said[0]
    assert said[0].endswith("the data set is made again")
    assert path.read_bytes() == whole
    assert {p.name for p in folder.parent.iterdir()} == {folder.name, f"{folder.name}.making"}
    assert load(tmp_path, said) == bits(particle)
    assert len(said) == 1


def test_processes_that_need_the_same_data_set_make_it_once(makings, particle, tmp_path):
    with ThreadPoolExecutor(2) as both:
        futures = [both.submit(load, tmp_path) for _ in range(2)]
    assert [future.result() for future in futures] == [bits(particle)] * 2
    assert makings == [1]


def test_while_another_makes_it_who_waits_says_so_now_and_then(makings, tmp_path, monkeypatch):
    monkeypatch.setattr(cached, "LOOKS", 0.05)
    system, waited, done = systems.get(PARTICLE), [], threading.Event()

    def waiting():
        waited.append(1)
        if len(waited) == 3:
            done.set()

    def other():
        with locks.held(tmp_path / "data" / f"{cached.key(PARTICLE, system, TINY)}.making"):
            ready.set()
            done.wait()

    ready = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(other)
        ready.wait()
        cached.load(PARTICLE, system, TINY, tmp_path, waiting=waiting)
    assert len(waited) >= 3
    assert makings == [1]


@pytest.mark.usefixtures("makings")
def test_a_data_set_under_the_name_of_another_is_refused(tmp_path):
    load(tmp_path)
    right = tmp_path / "data" / cached.key(PARTICLE, systems.get(PARTICLE), TINY)
    right.rename(other := right.with_name("wave-0123456789abcdef"))
    with pytest.raises(sealed.Damaged, match=f"it belongs to {right.name}, not to {other.name}"):
        cached.read(other)


@pytest.mark.usefixtures("makings")
def test_a_making_that_fails_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(np, "savez", lambda *_, **__: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        load(tmp_path)
    assert [p for p in (tmp_path / "data").iterdir() if p.suffix != ".making"] == []


def test_a_data_set_is_named_by_all_that_it_is_made_from(monkeypatch):
    def key(system=PARTICLE, constants="default", **changes):
        return cached.key(system, systems.get(system, constants), replace(TINY, **changes))

    usual = key()
    assert usual.startswith("relativistic_particle-")
    changes = {"sampling": "states", "data_seed": 1, "data_share": 0.5, "horizon_share": 0.5}
    assert set(changes) | {"segment"} == set(data.DATA_FIELDS)
    others = {key(**{name: value}) for name, value in changes.items()} | {key(constants="paper"), key(system="wave")}
    assert len(others - {usual}) == len(changes) + 2
    assert key(haste=not TINY.haste) != usual  # another compilation can mean other bits
    assert key(segment=7) == usual == key(steps=77, batch=16, models=("lnn",), seeds=(5,))
    assert key(segment=7, sampling="states") != key(sampling="states")
    monkeypatch.setattr(identity, "versions_in_names", lambda: {"jax": "other"})
    assert key() != usual
    monkeypatch.undo()
    monkeypatch.setattr(identity, "row", lambda *_: "another row")
    assert key() != usual
    monkeypatch.undo()
    monkeypatch.setattr(train, "TRAINING", train.TRAINING + 1)
    assert key() != usual


def test_of_independent_states_none_is_tested_or_learnt_from_alone_that_the_true_motion_has_led_away_from_their_law():
    system = systems.get("double_pendulum")
    preset = replace(TINY, sampling="states", data_share=0.001)
    made = data.generate(system, preset)
    assert made.training.x.shape[1] == preset.segment
    assert np.abs(made.training.x[:, 1:, 1]).max() > 12
    for split in (made.training.starts(), made.validation.starts(), made.test):
        assert split.x.shape[1] == split.rate.shape[1] == 1
        assert 9 < np.abs(split.x[:, 0, 1]).max() <= 10
    assert np.abs(made.training.starts().x[:, 0, 1]).mean() == pytest.approx(5, rel=0.1)
    for of_training in (preset, replace(preset, sampling="fresh")):
        single, of_frames = (train.Trainer(models.get(name), system, made, of_training) for name in ("hnn", "neural_ode"))
        assert single.draws_anew == (of_training.sampling == "fresh")
        assert single.training.x.shape[:2] == (len(made.training.x), 1)
        assert len(single.validation.x) <= len(made.validation.x)
        assert single.scales == train.scales(made.training.starts(), system, models.get("hnn"))
        assert not of_frames.draws_anew
        assert of_frames.training.x.shape[:2] == (len(made.training.x), preset.segment)
