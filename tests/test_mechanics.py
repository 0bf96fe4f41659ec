"""Operators of mechanics: the Euler-Lagrange equation, its banded form on a ring, and the integrator."""

import closed_forms as textbook
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from specimens import compiled, everywhere

import systems
from systems import _integrators as integrators
from systems import _mechanics as mechanics
from systems._cyclic import Bands, bands_from_windows, solve_bands


def random(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def random_lagrangian(n):
    """½‖v‖² and a smooth term that mixes all n coordinates, all n velocities and one number of context."""
    W, w = random(n, 2 * n + 1, 5), random(n + 100, 5)
    return lambda q, v, c: 0.5 * v @ v + 0.1 * jnp.tanh(jnp.concatenate([q, v, c]) @ W) @ w


@pytest.mark.parametrize("n", [1, 2, 3])
def test_accelerations_solve_the_euler_lagrange_equation_as_textbooks_write_it(n):
    L = random_lagrangian(n)
    q, v, c, F = random(1, 8, n), random(2, 8, n), random(3, 8, 1), random(4, 8, n)

    def residual(q, v, c, F):
        a = mechanics.euler_lagrange(L, q, v, c, F)
        changing_momentum = jax.jvp(jax.grad(L, 1), (q, v, c), (v, a, 0 * c))[1]
        return changing_momentum - jax.grad(L)(q, v, c) - F

    np.testing.assert_allclose(everywhere(residual)(q, v, c, F), 0, atol=1e-12)


@pytest.mark.parametrize("sites", [3, 5, 8])
def test_a_density_on_the_ring_moves_as_its_sum_does(sites):
    density = random_lagrangian(3)
    q, v, c = random(1, 4, sites), random(2, 4, sites), random(3, 4, 1)

    def both(q, v, c):
        summed = mechanics.total(density, True)
        return mechanics.euler_lagrange(density, q, v, c, lattice=True), mechanics.euler_lagrange(summed, q, v, c, lattice=False)

    np.testing.assert_allclose(*everywhere(both)(q, v, c), rtol=1e-9, atol=1e-9)


def test_windows_hold_each_site_between_its_neighbours_and_summing_them_is_the_transpose():
    q, local = jnp.asarray(random(0, 5)), jnp.asarray(random(1, 5, 3))
    np.testing.assert_array_equal(mechanics.windows(q), [[q[i - 1], q[i], q[(i + 1) % 5]] for i in range(5)])
    assert np.sum(local * mechanics.windows(q)) == pytest.approx(mechanics.sum_windows(local) @ q)


def cyclic(n, diagonals):
    """Symmetric matrix with the given numbers on its k-th cyclic diagonals, entry by entry."""
    M = np.zeros((n, n))
    for k, values in enumerate(diagonals):
        for i, value in enumerate(values):
            M[i, (i + k) % n] += value
            if k:
                M[(i + k) % n, i] += value
    return M


@pytest.mark.parametrize("n", [3, 4, 5, 6, 7, 16, 33])
def test_the_banded_solution_and_its_derivatives_are_the_dense_ones(n):
    square = random(n, 4, n, 3, 3)
    windows = square @ square.swapaxes(-1, -2) + 0.2 * np.eye(3)
    b, w = random(1, 4, n), random(2, 4, n)
    bands = jax.vmap(bands_from_windows)(windows)

    def weighed(bands, b, w):
        x = solve_bands(bands, b)
        return w @ x, (x, bands @ b)

    gradient, (x, product) = jax.jit(jax.vmap(jax.grad(weighed, (0, 1), has_aux=True)))(bands, b, w)
    for k in range(4):
        M = cyclic(n, [band[k] for band in bands])
        assembled = np.zeros((n, n))
        for i in range(n):
            sites = np.array([i - 1, i, (i + 1) % n])
            np.add.at(assembled, (sites[:, None], sites), windows[k, i])
        np.testing.assert_allclose(M, assembled, atol=1e-12)
        np.testing.assert_allclose(product[k], M @ b[k], rtol=1e-10, atol=1e-10)
        solution, adjoint = np.linalg.solve(M, b[k]), np.linalg.solve(M, w[k])
        np.testing.assert_allclose(x[k], solution, rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(gradient[1][k], adjoint, rtol=1e-8, atol=1e-9)
        for diagonal, found in enumerate(gradient[0]):
            bump = [cyclic(n, [np.eye(n)[i] if d == diagonal else np.zeros(n) for d in range(3)]) for i in range(n)]
            np.testing.assert_allclose(found[k], [-adjoint @ E @ solution for E in bump], rtol=1e-6, atol=1e-8)


def test_bands_are_the_matrix_that_they_stand_for():
    bands = Bands(*random(0, 3, 7))
    np.testing.assert_allclose(bands.dense(), cyclic(7, bands))


def test_the_integrator_is_of_the_order_that_it_claims():
    pendulum, T = systems.get("double_pendulum"), 1.0
    starts = np.random.default_rng(0).uniform(-2, 2, (16, 2, 2))

    def closed_form(_, y):
        q, v = y.reshape(16, 2, 2).transpose(1, 2, 0)
        return np.stack([v, textbook.pendulum_acceleration(pendulum, q, v)]).transpose(2, 0, 1).ravel()

    exact = solve_ivp(closed_form, (0, T), starts.ravel(), "DOP853", rtol=1e-13, atol=1e-13).y[:, -1].reshape(16, -1)

    def end(x, steps):
        def field(x):  # of time counted in steps
            return T / steps * pendulum.field(x, jnp.zeros(0))

        return jax.lax.fori_loop(0, steps, lambda _, x: integrators.step(field, x, 1.0), x)

    ends, steps = compiled(jax.vmap(end, (0, None))), np.array([160, 224, 320])  # coarser ones are not yet dominated by the leading error
    log_errors = [np.log(np.linalg.norm(ends(starts, n).reshape(16, -1) - exact, axis=1)).mean() for n in steps]
    slope = np.polyfit(-np.log(steps), log_errors, 1)[0]
    assert slope == pytest.approx(integrators.ORDER, abs=0.25)


def test_a_frame_is_its_equal_substeps_one_after_the_other():
    def field(x):
        return jnp.stack([x[1], -jnp.sin(x[0])])

    x = jnp.array([[1.0], [0.5]])
    by_hand = x
    for _ in range(3):
        by_hand = integrators.step(field, by_hand, 0.25)
    np.testing.assert_allclose(integrators.advance(field, x, 0.75, 3), by_hand, rtol=1e-14)
    assert np.abs(integrators.advance(field, x, 0.75, 1) - by_hand).max() > 1e-10


def test_a_rollout_holds_the_states_after_the_given_one():
    x = jnp.array([[1.0, 3.0], [2.0, -1.0]])
    frames = integrators.rollout(lambda x: 2 * x, x, 4)
    np.testing.assert_array_equal(frames, [2.0**k * x for k in (1, 2, 3, 4)])
