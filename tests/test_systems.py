"""True physics: the equations that autodiff derives are those that a textbook prints."""

from dataclasses import replace
from functools import cache
from typing import NamedTuple

import closed_forms as textbook
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from specimens import compiled, everywhere

import systems
from systems import Spec, _truth
from systems import _mechanics as mechanics

PENDULUM = replace(systems.get("double_pendulum"), m1=1.3, m2=0.6, l1=0.8, l2=1.5, g=9.8)
PARTICLE = systems.get("relativistic_particle")
PUBLISHED = systems.get("relativistic_particle", constants="paper")
WAVE = replace(systems.get("wave"), kappa=1.7, sites=7)


N = 24

FOUND = {name: systems.get(name) for name in systems.names()}
FOUND |= {"double_pendulum": PENDULUM, "relativistic_particle, paper": PUBLISHED, "wave": WAVE}

every_system = pytest.mark.parametrize("system", FOUND.values(), ids=FOUND)
both_particles = pytest.mark.parametrize("particle", [PARTICLE, PUBLISHED], ids=["physical", "paper"])


class Observed(NamedTuple):
    """At each of n states x under contexts c."""

    x: np.ndarray
    c: np.ndarray
    rate: np.ndarray  # ẋ
    energy: np.ndarray
    power: np.ndarray  # dE/dt along ẋ
    canonical: np.ndarray  # (q, p)
    canonical_rate: np.ndarray  # the field there
    x_back: np.ndarray  # by way of the canonical chart
    rate_back: np.ndarray
    pull: np.ndarray  # ∂L/∂q
    mass: np.ndarray  # ∂²L/∂v²
    force: np.ndarray


@cache
def drawn(system):
    """N training starts, N independent states and N evaluation starts, each as (x, c)."""
    samples = everywhere(lambda key, i: (system.sample_initial(key), system.sample_state(key), system.sample_evaluation(key, i)))
    return jax.tree.map(np.asarray, samples(jax.random.split(jax.random.key(1), N), np.arange(N)))


@cache
def observed(system):
    """What a system says of itself at random states."""

    def observe(x, c):
        L = mechanics.total(system.lagrangian, system.spec.lattice)
        canonical, rate = system.to_chart(x, c, "qp"), system.field(x, c)
        power = jax.jvp(lambda x: system.energy(x, c), (x,), (rate,))[1]
        return Observed(
            x=x,
            c=c,
            rate=rate,
            energy=system.energy(x, c),
            power=power,
            canonical=canonical,
            canonical_rate=system.field(canonical, c, "qp"),
            x_back=system.from_chart(canonical, c, "qp"),
            rate_back=system.rate_from_chart(system.rate_to_chart(rate, x, c, "qp"), x, c, "qp"),
            pull=jax.grad(L)(*x, c),
            mass=jax.hessian(L, 1)(*x, c),
            force=system.force(*x, c),
        )

    return Observed(*map(np.asarray, everywhere(observe)(*drawn(system)[1])))


def test_the_double_pendulum_moves_as_its_two_equations_say():
    seen = observed(PENDULUM)
    expected = [[v, textbook.pendulum_acceleration(PENDULUM, q, v)] for q, v in seen.x]
    np.testing.assert_allclose(seen.rate, expected, rtol=1e-9, atol=1e-9)


def test_the_energy_of_the_double_pendulum_is_that_of_two_masses_in_the_plane():
    seen = observed(PENDULUM)
    np.testing.assert_allclose(seen.energy, [textbook.pendulum_energy(PENDULUM, *x) for x in seen.x], rtol=1e-12, atol=1e-12)


@both_particles
def test_the_particle_accelerates_and_weighs_as_its_closed_forms_say(particle):
    seen = observed(particle)
    (q, v), g = seen.x[:, :, 0].T, seen.c[:, 0]
    np.testing.assert_allclose(seen.rate[:, 1, 0], textbook.particle_acceleration(particle, v, g), rtol=1e-9)
    np.testing.assert_allclose(seen.energy, textbook.particle_energy(particle, q, v, g), rtol=1e-9)
    np.testing.assert_allclose(seen.canonical[:, 1, 0], textbook.particle_momentum(particle, v), rtol=1e-9)


def test_the_ring_obeys_the_discrete_wave_equation():
    seen = observed(WAVE)
    np.testing.assert_allclose(seen.rate[:, 1], [textbook.wave_acceleration(WAVE, q) for q in seen.x[:, 0]], atol=1e-12)
    np.testing.assert_allclose(seen.energy, [textbook.wave_energy(WAVE, *x) for x in seen.x], rtol=1e-12)


@every_system
def test_momentum_changes_at_the_rate_that_euler_and_lagrange_demand(system):
    seen = observed(system)
    np.testing.assert_allclose(seen.canonical_rate, np.stack([seen.x[:, 1], seen.pull + seen.force], axis=1), rtol=1e-7, atol=1e-9)


@every_system
def test_energy_changes_by_the_power_of_the_force_alone(system):
    seen = observed(system)
    np.testing.assert_allclose(seen.power, (seen.force * seen.x[:, 1]).sum(-1), atol=1e-9 * np.abs(seen.energy).max())


@every_system
def test_charges_of_symmetries_are_conserved_and_those_of_false_ones_are_not(system):
    seen = observed(system)

    def change(direction):
        def one(x, c, rate):
            return jax.jvp(lambda x: system.momentum(x[0], x[1], c) @ direction(x[0]), (x,), (rate,))[1]

        return np.asarray(everywhere(one)(seen.x, seen.c, seen.rate))

    size = np.abs(seen.canonical_rate).max()
    for direction in system.symmetries().values():
        np.testing.assert_allclose(change(direction), 0, atol=1e-10 * size)
    for direction in system.false_symmetries().values():
        assert np.abs(change(direction)).mean() > 1e-3 * size


@every_system
def test_states_and_rates_return_from_the_canonical_chart(system):
    seen = observed(system)
    np.testing.assert_allclose(seen.x_back, seen.x, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(seen.rate_back, seen.rate, rtol=1e-9, atol=1e-9)


@every_system
def test_friction_brakes_by_its_force_over_the_mass_and_drains_its_power(system):
    class Damped(type(system)):
        def force(self, q, v, c):
            return -0.3 * v

    damped, seen = Damped(**vars(system)), observed(system)

    def rate_and_power(x, c):
        rate = damped.field(x, c)
        return rate, jax.jvp(lambda x: damped.energy(x, c), (x,), (rate,))[1]

    rate, power = everywhere(rate_and_power)(seen.x, seen.c)
    braking, v = np.asarray(rate)[:, 1] - seen.rate[:, 1], seen.x[:, 1]
    np.testing.assert_allclose(np.einsum("nij,nj->ni", seen.mass, braking), -0.3 * v, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(power, -0.3 * (v**2).sum(-1), rtol=1e-6, atol=1e-8)


HAMILTONIANS = {PENDULUM: textbook.pendulum_hamiltonian, PARTICLE: textbook.particle_hamiltonian, WAVE: textbook.wave_hamiltonian}


@pytest.mark.parametrize("system", HAMILTONIANS, ids=["pendulum", "particle", "wave"])
def test_hamiltons_equations_give_the_motion_of_euler_and_lagrange(system):
    seen = observed(system)
    H = mechanics.total(lambda q, p, c: HAMILTONIANS[system](system, q, p, c), system.spec.lattice)
    energy, (dH_dq, dH_dp) = everywhere(jax.value_and_grad(H, (0, 1)))(seen.canonical[:, 0], seen.canonical[:, 1], seen.c)
    np.testing.assert_allclose(seen.canonical_rate, np.stack([dH_dp, -dH_dq], axis=1), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(seen.energy, energy, rtol=1e-9, atol=1e-9)


@both_particles
def test_velocity_is_found_for_every_momentum_up_to_a_thousand(particle):
    p = np.concatenate([[0.0], *[sign * np.geomspace(1e-6, 1e3, 28) for sign in (1, -1)]])
    v = np.asarray(everywhere(lambda p: particle.velocity(jnp.ones(1), p, jnp.ones(1)))(p[:, None]))[:, 0]
    assert (np.abs(v) < 1).all()
    np.testing.assert_allclose(textbook.particle_momentum(particle, v), p, rtol=1e-8)
    if particle.variant == "physical":
        np.testing.assert_allclose(v, p / np.sqrt(1 + p**2), rtol=1e-12, atol=1e-14)


def test_the_truth_follows_the_exact_relativistic_motion_also_without_a_field():
    times = np.linspace(0, 1, 6)
    p0, g = np.array([-3.0, -0.5, 0.0, 1.0, 3.5]), np.array([6.0, 0.0, 1.0, -4.5, 0.0])
    q0 = np.linspace(-10, 10, len(p0))
    x = np.stack([q0, p0 / np.sqrt(1 + p0**2)], axis=1)[..., None]
    x = np.asarray(everywhere(lambda x, g: _truth.trajectory(PARTICLE, x, g, jnp.asarray(times)))(x, g[:, None]))[..., 0]
    q, p = textbook.particle_motion(q0[:, None], p0[:, None], g[:, None], times)
    np.testing.assert_allclose(x[:, :, 0], q, atol=1e-10)
    np.testing.assert_allclose(x[:, :, 1], p / np.sqrt(1 + p**2), atol=1e-10)


def test_the_truth_follows_the_exact_fourier_modes_on_the_ring():
    times = np.linspace(0, 10, 6)
    start = observed(WAVE).x[:3]
    x = np.asarray(everywhere(lambda x: _truth.trajectory(WAVE, x, jnp.zeros(0), jnp.asarray(times)))(start))
    expected = [[textbook.wave_motion(WAVE, *motion[0], t) for t in times] for motion in x]
    np.testing.assert_allclose(x, expected, atol=1e-9)


def test_the_truth_agrees_with_an_independent_solver_on_the_double_pendulum():
    start, times = np.array([[2.0, -1.0], [0.5, -1.5]]), np.linspace(0, 3, 7)

    def closed_form(_, y):
        return np.concatenate([y[2:], textbook.pendulum_acceleration(PENDULUM, y[:2], y[2:])])

    expected = solve_ivp(closed_form, (0, 3), start.ravel(), "DOP853", times, rtol=1e-13, atol=1e-13).y.T
    x = compiled(lambda x: _truth.trajectory(PENDULUM, x, jnp.zeros(0), jnp.asarray(times)))(start)
    np.testing.assert_allclose(x.reshape(-1, 4), expected, atol=1e-8)


@every_system
def test_every_start_fits_its_spec_and_is_admissible(system):
    spec, admissible = system.spec, everywhere(system.admissible)
    for x, c in drawn(system):
        assert x.shape[:2] == (N, 2)
        assert spec.lattice or x.shape[2] == spec.dof
        assert c.shape == (N, spec.context)
        assert admissible(x).all()
        assert not admissible(x * np.array([[1.0], [np.nan]])).any()
        assert len(np.unique(np.reshape(x, (N, -1)), axis=0)) == N
        assert (np.asarray(system.energy_scale(jnp.asarray(x), jnp.asarray(c))) > 0).all()


def test_energies_of_the_pendulum_are_told_in_units_of_its_largest_potential_energy():
    scale = systems.get("double_pendulum").energy_scale(jnp.zeros((5, 2, 2)), jnp.zeros((5, 0)))
    np.testing.assert_allclose(scale, np.full(5, 29.4))


def test_nothing_is_faster_than_light():
    v = np.array([-1.5, -1.0, 0.0, 0.999, 1.0])
    x = np.stack([0 * v, v], axis=1)[..., None]
    np.testing.assert_array_equal(everywhere(PARTICLE.admissible)(x), [False, False, True, True, False])


def test_training_starts_of_the_particle_set_its_momentum_at_both_ends():
    x, g = drawn(PARTICLE)[0]
    start = textbook.particle_momentum(PARTICLE, x[:, 1, 0])
    end = start + g[:, 0] * PARTICLE.recording.duration
    assert np.abs([start, end]).max() == pytest.approx(np.sinh(2))  # a third of them is clipped
    assert np.abs([start, end]).min() < 1


def test_the_first_evaluation_start_of_the_ring_is_the_published_pulse_at_rest():
    place = np.arange(WAVE.evaluation_sites) / WAVE.evaluation_sites
    np.testing.assert_allclose(drawn(WAVE)[2][0][0], [np.exp(-((place - 0.5) ** 2) / 2 / 0.05**2), np.zeros_like(place)], atol=1e-12)


def test_a_spec_refuses_what_has_no_meaning():
    with pytest.raises(ValueError, match="angles has 1 entries for 2 degrees of freedom"):
        Spec(dof=2, angles=(True,))
    with pytest.raises(ValueError, match="a lattice has one coordinate a site, not 3"):
        Spec(dof=3, lattice=True)
    assert Spec(dof=2).is_angle() == (False, False)
    assert Spec(dof=2, angles=(True, False)).is_angle() == (True, False)
