"""The systems of Table 1: equations as a textbook prints them, and the same motion in other coordinates."""

import closed_forms as textbook
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from specimens import everywhere

import systems
from systems._charts import PointTransformed, Warp

ACCELERATIONS = {
    "planar_particle": textbook.central_acceleration,
    "planar_polar": textbook.polar_acceleration,
    "magnetic_charge": textbook.magnetic_acceleration,
    "quartic_particle": textbook.quartic_acceleration,
    "pendulum_relative": textbook.relative_acceleration,
}
ENERGIES = {"magnetic_charge": textbook.magnetic_energy, "quartic_particle": textbook.quartic_energy}
CHARTS = [name for name in systems.names() if isinstance(systems.get(name), PointTransformed)]
N = 16


def starts(system):
    """N training starts, as (x, c)."""
    return everywhere(system.sample_initial)(jax.random.split(jax.random.key(2), N))


@pytest.mark.parametrize("name", ACCELERATIONS)
def test_the_system_moves_as_its_textbook_says(name):
    system = systems.get(name)
    x, c = starts(system)
    expected = [ACCELERATIONS[name](system, *np.asarray(of_one)) for of_one in x]
    np.testing.assert_allclose(everywhere(system.acceleration)(x, c), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ENERGIES)
def test_its_energy_is_the_one_of_the_textbook(name):
    system = systems.get(name)
    x, c = starts(system)
    np.testing.assert_allclose(everywhere(system.energy)(x, c), [ENERGIES[name](system, *np.asarray(of_one)) for of_one in x], rtol=1e-12)


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_shows_the_motion_of_its_base(name):
    system = systems.get(name)
    x, c = starts(system)

    def compare(x, c):
        seen, rate = jax.jvp(system.common, (x,), (system.field(x, c),))
        return seen, rate, system.base.field(seen, c), system.energy(x, c), system.base.energy(seen, c), system.from_common(seen)

    seen, rate, base_rate, energy, base_energy, back = everywhere(compare)(x, c)
    np.testing.assert_allclose(rate, base_rate, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(energy, base_energy, rtol=1e-10)
    np.testing.assert_allclose(back, x, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(seen, everywhere(system.base.sample_initial)(jax.random.split(jax.random.key(2), N))[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("seed", "wavenumber"), [(0, 1.0), (0, 2.0), (5, 1.0)])
def test_a_warp_bends_by_at_most_a_half_and_a_good_part_of_that(seed, wavenumber):
    warp = Warp(seed, wavenumber)
    points = jax.random.uniform(jax.random.key(1), (2000, 2), minval=-4, maxval=4)
    bends = np.linalg.norm(everywhere(jax.jacfwd(warp))(points) - np.eye(2), ord=2, axis=(1, 2))
    assert bends.max() <= 0.5
    assert bends.max() > 0.2
    turned = everywhere(warp)(points + 2 * jnp.pi * jnp.array([1.0, -2.0]))
    np.testing.assert_allclose(turned, everywhere(warp)(points) + 2 * np.pi * np.array([1.0, -2.0]), atol=1e-9)


def test_friction_does_the_same_work_in_every_chart():
    class Rubbing(type(systems.get("planar_particle"))):
        def force(self, q, v, c):
            return -0.3 * v

    base = Rubbing()
    polar = type(systems.get("planar_polar"))(base=base)
    x, c = starts(polar)
    power = everywhere(lambda x, c: (x[1] @ polar.force(x[0], x[1], c), jax.jvp(lambda x: polar.energy(x, c), (x,), (polar.field(x, c),))[1]))(x, c)
    expected = [-0.3 * v @ v for _, v in np.asarray(everywhere(polar.common)(x))]
    np.testing.assert_allclose(power[0], expected, rtol=1e-9)
    np.testing.assert_allclose(power[1], expected, rtol=1e-8)
