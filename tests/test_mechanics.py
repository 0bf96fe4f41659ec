"""Operators of mechanics: the Euler-Lagrange equation, its banded form on a ring, and the integrator."""

from functools import partial

import closed_forms as textbook
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.integrate import solve_ivp
from specimens import compiled, everywhere

import systems
from bench import as_published
from bench.flops import flops
from models import Scalar, Scales, Shape
from systems import Spec
from systems import _integrators as integrators
from systems import _mechanics as mechanics
from systems._cyclic import Bands, bands_from_windows, solve_bands
from systems._integrators import Adams


def random(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def random_lagrangian(n):
    """½‖v‖² and a smooth term that mixes all n coordinates, all n velocities and one number of context."""
    W, w = random(n, 2 * n + 1, 5), random(n + 100, 5)
    return lambda q, v, c: 0.5 * v @ v + 0.1 * jnp.tanh(jnp.concatenate([q, v, c]) @ W) @ w


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_accelerations_solve_the_euler_lagrange_equation_as_textbooks_write_it(n):
    L = random_lagrangian(n)
    q, v, c, F = random(1, 8, n), random(2, 8, n), random(3, 8, 1), random(4, 8, n)

    def residual(q, v, c, F):
        a = mechanics.euler_lagrange(L, q, v, c, F)
        changing_momentum = jax.jvp(jax.grad(L, 1), (q, v, c), (v, a, 0 * c))[1]
        return changing_momentum - jax.grad(L)(q, v, c) - F

    np.testing.assert_allclose(everywhere(residual)(q, v, c, F), 0, atol=1e-12)


def accelerations(form, weights, q, v):
    """Of a Lagrangian with these weights, at many states."""
    n = q.shape[-1]
    w = random(n + 100, 5)

    def L(q, v, c):
        return 0.5 * v @ v + 0.1 * jnp.tanh(jnp.concatenate([q, v]) @ weights) @ w

    return jax.vmap(lambda q, v: form(L, q, v, jnp.zeros(0)))(q, v)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_accelerations_and_their_derivatives_are_those_of_the_published_form(n):
    q, v, weights, direction = (jnp.asarray(random(i, *shape)) for i, shape in enumerate([(8, n), (8, n), (2 * n, 5), (2 * n, 5)]))

    def everything(form):
        def squares(weights, q, v):
            return (accelerations(form, weights, q, v) ** 2).sum()

        first = jax.value_and_grad(squares, (0, 1, 2))(weights, q, v)
        second = jax.grad(lambda t: jax.grad(lambda w: squares(w, q, v))(weights + t * direction).sum())(0.1)
        forward = jax.jvp(lambda w: squares(w, q, v), (weights,), (direction,))[1]
        return first, second, forward

    ours, published = (
        jax.tree.leaves(compiled(lambda form=form: everything(form))()) for form in (mechanics.euler_lagrange, as_published.acceleration)
    )
    for a, b in zip(ours, published, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9)


def passes(form, n, width=200):
    """Passes through a network that one gradient of the mean |acceleration| takes, a value counting 1."""
    ones = (1.0,) * n
    network = Scalar(Spec(n), Scales(ones, ones, ones, (), 1.0), Shape(width=width), rngs=nnx.Rngs(params=0))
    q, v = jnp.asarray(random(1, 2, 32, n), jnp.float32)
    none = jnp.zeros(0, jnp.float32)

    def loss(network, q, v):
        def L(q, v, c):
            return network(q, v, c) + 0.5 * v @ v

        return jnp.abs(jax.vmap(lambda q, v: form(L, q, v, none))(q, v)).mean()

    value = flops(jax.vmap(network, (0, 0, None)), q, v, none)
    return flops(jax.grad(loss), network, q, v) / value


@pytest.mark.parametrize(("n", "counted"), [(1, 12), (2, 18), (3, 20), (4, 22), (6, 26)])
def test_a_training_step_takes_no_more_passes_of_the_network_than_counted_on_paper(n, counted):
    """6 + 6·dof operation by operation, for one degree of freedom; 14 + 2·dof with the derivative rule."""
    assert passes(mechanics.euler_lagrange, n) == pytest.approx(counted, rel=0.05)


def test_the_published_form_takes_at_least_twice_as_many():
    assert passes(as_published.acceleration, 2) > 36


@pytest.mark.parametrize("n", [3, 4, 6])
def test_a_mass_matrix_is_solved_whether_it_is_positive_definite_or_not_and_so_is_its_derivative(n):
    B, b, w = random(1, 3, n, n), random(2, 3, n), random(3, 3, n)
    A = np.stack([B[0] @ B[0].T + np.eye(n), np.diag([-1.0] + [2.0] * (n - 1)) + 0.1 * (B[1] + B[1].T), -(B[2] @ B[2].T + np.eye(n))])

    def weighed(A, b, w):
        x = mechanics.solve(A, b)
        return w @ x, x

    (dA, db), x = everywhere(jax.grad(weighed, (0, 1), has_aux=True))(A, b, w)
    for k in range(3):
        solution, adjoint = np.linalg.solve(A[k], b[k]), np.linalg.solve(A[k].T, w[k])
        np.testing.assert_allclose(x[k], solution, rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(db[k], adjoint, rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(dA[k] + dA[k].T, -np.outer(adjoint, solution) - np.outer(solution, adjoint), rtol=1e-8, atol=1e-9)


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


@pytest.mark.parametrize(("order", "evaluations"), [(2, 1), (4, 1), (5, 1), (5, 2), (6, 2)])
def test_a_multistep_method_is_of_its_order(order, evaluations):
    """On a pendulum with friction; the starting slopes come from a method of order 5."""
    adams = Adams(order, evaluations)

    def field(x):
        return jnp.stack([x[1], -jnp.sin(x[0]) - 0.2 * x[0] * x[1]])

    def end(steps):
        at, _ = adams.rollout(field, adams.start(field, jnp.array([[1.0], [0.3]]), 5.0 / steps), 5.0, steps, 1)
        return at.x[:, 0]

    exact = solve_ivp(lambda _, y: [y[1], -np.sin(y[0]) - 0.2 * y[0] * y[1]], (0, 5), [1.0, 0.3], "DOP853", rtol=1e-13, atol=1e-14).y[:, -1]
    steps = (90, 135, 200)
    errors = [np.linalg.norm(compiled(partial(end, n))() - exact) for n in steps]
    assert -np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(order, abs=0.3)


def test_a_multistep_method_goes_on_where_it_was():
    adams, x = Adams(5, evaluations=1), jnp.array([[1.0], [0.5]])

    def field(x):
        return jnp.stack([x[1], -jnp.sin(x[0])])

    at, whole = adams.rollout(field, adams.start(field, x, 0.05), 0.1, 2, 6)
    half, first = adams.rollout(field, adams.start(field, x, 0.05), 0.1, 2, 3)
    end, second = adams.rollout(field, half, 0.1, 2, 3)
    np.testing.assert_array_equal(whole, np.concatenate([first, second]))
    np.testing.assert_array_equal(at.slopes, end.slopes)
    np.testing.assert_allclose(at.slopes[0], field(at.x), atol=1e-6)


@pytest.mark.parametrize(("values", "told"), [((1, 2), "order"), ((9, 2), "order"), ((5, 3), "evaluations")])
def test_a_multistep_method_that_is_none_is_refused(values, told):
    with pytest.raises(ValueError, match=told):
        Adams(*values)


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


@pytest.mark.parametrize("evaluations", [1, 2])
def test_a_multistep_method_keeps_single_precision(evaluations):
    adams, x = Adams(5, evaluations), jnp.array([[1.0], [0.5]], jnp.float32)

    def field(x):
        return jnp.stack([x[1], -jnp.sin(x[0])])

    at, states = adams.rollout(field, adams.start(field, x, 0.05), 0.1, 2, 3)
    assert (at.x.dtype, at.slopes.dtype, states.dtype) == (jnp.float32,) * 3
