"""Data sets are true, split by trajectory, and believed only while they are whole."""

from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np
import pytest

import models
import systems
from bench import data, train
from bench.presets import PRESETS
from systems.relativistic_particle import RelativisticParticle

TINY = replace(PRESETS["smoke"], data_share=0.01, horizon_share=0.02)


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


def test_a_trajectory_that_loses_energy_is_refused():
    @dataclass(frozen=True)
    class Rubbed(RelativisticParticle):
        def force(self, q, v, c):
            return -1e-3 * v

    with pytest.raises(data.DataError, match="energy scale"):
        data.generate(Rubbed(), TINY)


def test_the_cache_gives_the_same_bits_and_refuses_damage(tmp_path):
    system = systems.get("relativistic_particle")
    first = data.load("relativistic_particle", system, TINY, tmp_path)
    second = data.load("relativistic_particle", system, TINY, tmp_path)
    np.testing.assert_array_equal(first.training.x, second.training.x)
    (path,) = tmp_path.glob("*.npz")
    whole = path.read_bytes()
    for damaged in (whole[:-100], whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:], b""):
        path.write_bytes(damaged)
        with pytest.raises(data.DataError, match=r"damaged.*delete it"):
            data.load("relativistic_particle", system, TINY, tmp_path)
        with pytest.raises(data.DataError, match="damaged"):
            data.check("relativistic_particle", system, TINY, tmp_path)


def test_published_sampling_starts_every_segment_at_an_independent_state():
    system = systems.get("double_pendulum")
    preset = replace(TINY, sampling="states", data_share=0.001)
    x = data.generate(system, preset).training.x
    assert x.shape[1] == preset.segment
    speeds = np.abs(x[:, 0, 1])
    assert 9 < speeds.max() <= 10
    assert speeds.mean() == pytest.approx(5, rel=0.2)
