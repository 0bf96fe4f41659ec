"""Metrics have known answers."""

from dataclasses import dataclass

import jax
import numpy as np
import pytest

import systems
from bench import metrics
from systems.relativistic_particle import RelativisticParticle

PENDULUM = systems.get("double_pendulum").spec
PARTICLE = systems.get("relativistic_particle").spec
RING = systems.get("wave").spec


def motion(spec, sites=2, starts=3, time=8):
    return np.random.default_rng(0).normal(size=(starts, time, 2, sites if spec.lattice else spec.dof))


NEVER = np.full(3, 8)


def test_predicting_zero_has_field_error_one_and_the_truth_none():
    true = motion(PENDULUM)[0]
    assert metrics.field_error(np.zeros_like(true), true) == pytest.approx(1)
    assert metrics.field_error(true, true) == 0
    assert metrics.acceleration_error(3 * true[:, 1], true[:, 1]) == pytest.approx(2)
    assert metrics.force_error(3 * true[:, 1], true[:, 1]) == pytest.approx(2)


def test_field_error_ignores_units():
    true, predicted = motion(PENDULUM)[0], motion(PENDULUM)[1]
    units = np.array([[1.0, 1e3], [1e-3, 7.0]])
    assert metrics.field_error(units * predicted, units * true) == pytest.approx(metrics.field_error(predicted, true))


def test_acceleration_error_weighs_components_by_their_spread_and_force_error_does_not():
    true = motion(PENDULUM)[0][:, 1]
    predicted = true + 0.1
    units = np.array([1.0, 1e3])
    assert metrics.acceleration_error(units * predicted, units * true) == pytest.approx(metrics.acceleration_error(predicted, true))
    assert metrics.force_error(units * predicted, units * true) != pytest.approx(metrics.force_error(predicted, true), rel=0.01)


def test_a_field_that_is_not_finite_has_infinite_error():
    true = motion(PENDULUM)[0]
    assert metrics.field_error(np.where(true > 1, np.nan, true), true) == np.inf


def test_an_angle_counts_modulo_a_turn():
    true = motion(PENDULUM)
    turned = true + np.array([[2 * np.pi, -6 * np.pi], [0, 0]])
    assert metrics.rollout_error(turned, true, PENDULUM, NEVER).max() == metrics.FLOOR
    assert metrics.distance(turned, true, PENDULUM).max() < 1e-13
    # a position on a line does not
    shifted = motion(PARTICLE) + np.array([[2 * np.pi], [0]])
    assert metrics.rollout_error(shifted, motion(PARTICLE), PARTICLE, NEVER).min() > 0.1


def test_rollout_error_is_one_for_the_mirror_image_and_for_the_diverged():
    true = motion(PARTICLE)
    assert metrics.rollout_error(-true, true, PARTICLE, NEVER) == pytest.approx(1)
    error = metrics.rollout_error(true, true, PARTICLE, np.array([8, 3, 0]))
    assert (error[1, 3:] == 1).all()
    assert (error[1, :3] == metrics.FLOOR).all()
    assert (error[2] == 1).all()


def test_nan_and_blow_up_half_way_count_as_divergence_from_there_on():
    predicted = motion(PARTICLE)
    predicted[0, 5, 1] = np.nan
    predicted[1, 2:, 0] = 1e3
    diverged = metrics.divergence(predicted, np.full((2, 1), 50.0), np.ones((3, 8), bool))
    assert diverged.tolist() == [5, 2, 8]
    energy = metrics.energy_error(np.ones((3, 8)), np.zeros((3, 1)), np.full(3, 2.0), diverged)
    assert (energy[0, :5] == 0.5).all()
    assert np.isinf(energy[0, 5:]).all()
    assert (energy[2] == 0.5).all()
    assert np.isfinite(metrics.rollout_error(predicted, motion(PARTICLE), PARTICLE, diverged)).all()


def test_a_particle_as_fast_as_light_has_diverged():
    system = systems.get("relativistic_particle")
    predicted = np.zeros((1, 4, 2, 1))
    predicted[0, 2, 1] = 1.0
    admissible = np.asarray(jax.vmap(jax.vmap(system.admissible))(predicted))
    assert metrics.divergence(predicted, np.full((2, 1), 50.0), admissible).tolist() == [2]


@dataclass(frozen=True)
class ShiftedParticle(RelativisticParticle):
    """The same particle, its Lagrangian changed by a constant."""

    def lagrangian(self, q, v, c):
        return super().lagrangian(q, v, c) - 1234.5


def test_energy_error_ignores_a_constant_added_to_the_energy():
    errors = []
    for system in (RelativisticParticle(), ShiftedParticle()):
        x, c = jax.vmap(system.sample_initial)(jax.random.split(jax.random.key(1), 5))
        energy = np.asarray(jax.vmap(system.energy)(1.01 * x, c))[:, None]
        errors.append(metrics.energy_error(energy, jax.vmap(system.energy)(x, c)[:, None], system.energy_scale(x, c), np.full(5, 1)))
    assert errors[0] == pytest.approx(errors[1], rel=1e-9)
    assert errors[0].min() > 0


def test_valid_time_is_where_the_distance_first_exceeds_its_bound_and_at_most_what_is_known():
    distance = np.array([[0.1, 0.2, 0.5, 0.1], [0.1, 0.1, 0.1, 0.1], [np.nan, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.1]])
    times = metrics.valid_time(distance, np.array([4, 4, 4, 1]), 0.5, np.array([2.0, 1.2, 2.0, 2.0]))
    assert times == pytest.approx([1.5, 1.2, 0.5, 1.0])


def test_distance_of_the_mean_is_about_one():
    true = np.random.default_rng(1).normal(size=(50, 200, 2, 1)) * np.array([[3.0], [0.1]])
    mean = np.broadcast_to(true.mean(axis=(0, 1)), true.shape)
    distance = metrics.distance(mean, true, PARTICLE)
    assert np.sqrt((distance**2).mean()) == pytest.approx(1, rel=1e-9)


def test_momentum_error_is_the_drift_of_the_sum_in_units_of_typical_momentum():
    true = motion(RING, sites=20)
    predicted = true.copy()
    predicted[:, 4:, 1] += 0.3
    rms = np.sqrt((true[:, :, 1] ** 2).mean(axis=(1, 2)))
    assert metrics.momentum_error(predicted, true, NEVER) == pytest.approx(0.3 / rms)
    assert np.isinf(metrics.momentum_error(predicted, true, np.array([8, 8, 1]))).tolist() == [False, False, True]


def test_final_field_error_ignores_the_mean_of_the_field():
    true = motion(RING, sites=20)
    assert metrics.final_field_error(true + 7, true, NEVER) == pytest.approx(0, abs=1e-12)
    stretched = true * np.array([[2.0], [1.0]])
    assert metrics.final_field_error(stretched, true, NEVER) == pytest.approx(1)
    assert np.isinf(metrics.final_field_error(true, true, np.array([0, 8, 8]))).tolist() == [True, False, False]


def test_geometric_mean():
    assert metrics.geometric_mean(np.array([1.0, 100.0])) == pytest.approx(10)
