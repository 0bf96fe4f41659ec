"""Energy as a balance: what friction takes is accounted for, in the data and in the evaluation."""

from dataclasses import dataclass, replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from specimens import build, compiled, everywhere

import models
import systems
from bench import data, parts, power
from bench.evaluate import Evaluator
from bench.floors import Truth
from bench.presets import PRESETS
from systems import PointTransformed, System, _truth
from systems.double_pendulum import DoublePendulum
from systems.planar_particle import PlanarParticle
from systems.planar_warped import PlanarWarped

TINY = replace(PRESETS["smoke"], data_share=0.01, horizon_share=0.1)


@dataclass(frozen=True)
class DampedParticle(PlanarParticle):
    """F = −b |v| v."""

    b: float = 0.1  # 1/m
    dissipative = True

    def force(self, q, v, c):
        return -self.b * jnp.sqrt(v @ v) * v


@dataclass(frozen=True)
class DampedPendulum(DoublePendulum):
    """F = −D v, friction in both joints."""

    b: float = 0.05  # N m s
    dissipative = True

    def force(self, q, v, c):
        return -self.b * jnp.array([2 * v[0] - v[1], v[1] - v[0]])


@dataclass(frozen=True)
class DampedWarped(PlanarWarped):
    base: System = DampedParticle()


@dataclass(frozen=True)
class Fed(DampedParticle):
    b: float = -0.1


SPECIMENS = [DampedParticle(), DampedPendulum(), DampedWarped()]
every_specimen = pytest.mark.parametrize("system", SPECIMENS, ids=lambda system: type(system).__name__)


def starts(system, n=4):
    return jax.vmap(system.sample_initial)(jax.random.split(jax.random.key(5), n))


@every_specimen
def test_what_friction_takes_is_the_work_of_its_force(system):
    x, c = starts(system)
    trajectories = data.integrate(system, x, c, 20, 0.1)
    energy = np.asarray(everywhere(jax.vmap(system.energy, (0, None)))(trajectories, c))
    assert (np.diff(energy, axis=1) < 0).all()
    assert ((energy[:, 0] - energy[:, -1]) / np.asarray(system.energy_scale(x, c)) > 1e-3).all()


@pytest.mark.parametrize("factor", [-1.0, 1 + 1e-5])
def test_a_planted_error_in_the_balance_is_caught(factor, monkeypatch):
    system, right = DampedParticle(), System.power
    monkeypatch.setattr(System, "power", lambda self, x, c: factor * right(self, x, c))
    with pytest.raises(data.DataError, match=r"trajectory \d of DampedParticle breaks its balance H\(t\) = H\(0\) \+ W\(t\).*energy scale"):
        data.integrate(replace(system), *starts(system), 20, 0.1)


def test_a_system_that_says_that_it_is_never_fed_and_is_fed_is_refused_with_the_state():
    class Undeclared(Fed):
        dissipative = False

    for system in (Fed(), DampedWarped(base=Fed())):
        with pytest.raises(data.DataError, match=r"declares itself dissipative.*F·v = .* > 0 at state \[q, v\] = \[\[.*mend the sign"):
            data.integrate(system, *starts(system), 10, 0.1)
    x, c = starts(Undeclared())
    assert data.integrate(Undeclared(), x, c, 10, 0.1).shape == (4, 11, 2, 2)


def test_a_system_without_a_force_has_the_bits_of_its_motion_alone(monkeypatch):
    system = systems.get("planar_particle")
    x, c = starts(system)
    times = jnp.arange(11) * 0.1
    alone = jax.jit(jax.vmap(lambda x, c: _truth.trajectory(system, x, c, times)))(x, c)
    monkeypatch.setattr(_truth, "trajectory_and_work", None)
    np.testing.assert_array_equal(data.integrate(system, x, c, 10, 0.1), alone)


def test_a_chart_has_a_force_where_its_base_has_one():
    assert [(system.forced, system.dissipative) for system in SPECIMENS] == [(True, True)] * 3
    assert not any(systems.get(name).forced or systems.get(name).dissipative for name in systems.names())

    @dataclass(frozen=True)
    class Pushed(PointTransformed):
        base: System = systems.get("planar_particle")

        def force(self, q, v, c):
            return jnp.ones_like(q)

    assert Pushed().forced
    x, c = SPECIMENS[2].sample_initial(jax.random.key(0))
    there = DampedParticle().power(SPECIMENS[2].common(x), c)
    assert float(SPECIMENS[2].power(x, c)) == pytest.approx(float(there), rel=1e-12)


@cache
def states(system):
    x, c = jax.vmap(system.sample_state)(jax.random.split(jax.random.key(1), 200))
    rate = everywhere(system.field)(x, c)
    return np.asarray(x), np.asarray(c), np.asarray(rate)


@every_specimen
def test_the_power_balance_of_the_true_field_is_zero_and_sees_one_per_cent_of_friction(system):
    x, c, true = states(system)
    exact = power.balance(system, x, c, true)
    assert set(exact) == {"power_balance", "power_error"}
    assert max(exact.values()) < 1e-12
    heavier = replace(system, base=DampedParticle(b=0.101)) if isinstance(system, PointTransformed) else replace(system, b=1.01 * system.b)
    wrong = power.balance(system, x, c, np.asarray(everywhere(heavier.field)(x, c)))
    assert wrong["power_error"] == pytest.approx(0.01, rel=1e-6)
    assert 0 < wrong["power_balance"] < 0.01
    flow = np.abs(np.asarray(everywhere(jax.grad(system.energy))(x, c)) * np.asarray(everywhere(heavier.field)(x, c))).sum(axis=(1, 2)).mean()
    work = np.abs(np.asarray(everywhere(system.power)(x, c))).mean()
    assert wrong["power_balance"] == pytest.approx(0.01 * work / flow, rel=1e-6)


def test_a_field_without_friction_misses_all_of_its_power_and_one_that_is_lost_is_infinitely_wrong():
    system = DampedPendulum()
    x, c, true = states(system)
    without = np.asarray(everywhere(DoublePendulum().field)(x, c))
    assert power.balance(system, x, c, without)["power_error"] == pytest.approx(1, rel=1e-9)
    assert set(power.balance(system, x, c, np.nan * true).values()) == {np.inf}
    assert power.balance(system, x, c, 0 * true) == {"power_balance": np.inf, "power_error": pytest.approx(1)}

    class Turning(PlanarParticle):
        def force(self, q, v, c):
            return jnp.array([v[1], -v[0]])

    x, c, true = states(Turning())
    assert power.balance(Turning(), x, c, true).keys() == {"power_balance"}


def test_energy_errors_of_a_system_with_a_force_follow_the_truth_and_no_learnt_energy_is_asked_to_stay():
    system = DampedParticle()
    dataset = data.generate(system, TINY)
    evaluate = Evaluator(system, dataset)
    results, curves = parts.measured([parts.WHOLE, "power"], ({}, {}), evaluate, Truth(system, dataset))
    energy = np.asarray(compiled(jax.vmap(jax.vmap(system.energy, (0, None))))(dataset.evaluation.x, dataset.evaluation.c))
    scale = np.asarray(system.energy_scale(dataset.evaluation.x[:, 0], dataset.evaluation.c))
    assert (np.abs(energy[:, -1] - energy[:, 0]) / scale).min() > 1e-2
    assert results["energy_error_max"] < 1e-5
    assert curves["coarse_energy_error"][0] < 1e-5
    assert results["power_balance"] < 1e-5
    assert results["power_error"] < 1e-5
    model = build(models.get("hnn_naive"), "planar_particle")
    results, curves = evaluate(model)
    assert "own_energy_drift" not in results
    assert "own_energy_coarse" not in curves
    assert {"charge_energy_change", "kept_energy_change"} <= set(curves)
    usual = systems.get("planar_particle")
    results, curves = Evaluator(usual, dataset)(model)
    assert "own_energy_drift" in results
    assert "own_energy_coarse" in curves
    assert not {"power_balance", "power_error"} & set(results)
