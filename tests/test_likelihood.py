"""The force likelihood is a probability density of accelerations, continued to where a density has no value."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from specimens import compiled, everywhere

from models._likelihood import continued_log, force_likelihood, trace_of
from systems import _mechanics as mechanics

M, DOF = 40, 2
STATES = np.random.default_rng(0).normal(size=(M, 3, DOF))  # q, v, a


def lagrangian(q, v, c):
    return 0.5 * v @ v + 0.1 * jnp.sin(q[0] + v[1]) * jnp.cos(q[1] - v[0]) * v[0] - jnp.cos(q).sum()


def density(L, **form):
    """Force likelihood of a Lagrangian at the random states and accelerations."""

    def pieces(q, v, a):
        A, pull = mechanics.expand(L, q, v, jnp.zeros(0))
        return A, A @ a - pull

    return float(compiled(lambda x: force_likelihood(*jax.vmap(pieces)(*x), **form))(STATES.swapaxes(0, 1)))


EXACT = {"log": jnp.log, "pin": False}


def test_the_exact_form_does_not_know_the_unit_of_energy():
    expected = density(lagrangian, **EXACT)
    for scale in (1e-3, 3.7):
        assert density(lambda *x, scale=scale: scale * lagrangian(*x), **EXACT) == pytest.approx(expected, rel=1e-12)


def test_the_exact_form_does_not_see_a_total_derivative():
    def f(q):
        return jnp.sin(q[0]) * q[1] ** 2 + jnp.exp(0.3 * q[1])

    def gauged(q, v, c):
        return lagrangian(q, v, c) + jax.grad(f)(q) @ v

    assert density(gauged, **EXACT) == pytest.approx(density(lagrangian, **EXACT), rel=1e-12)
    assert density(lambda q, v, c: lagrangian(q, v, c) + f(q), **EXACT) != pytest.approx(density(lagrangian, **EXACT), rel=1e-3)


def laplace(x, b):
    """Density of Laplace noise of scale b."""
    return np.exp(-np.abs(x) / b) / (2 * b)


def test_the_exact_form_is_the_laplace_density_of_the_accelerations_of_an_oscillator():
    m, k = 1.7, 0.6
    q, v, a = STATES[:, :, 0].T

    def pieces(q, v, a):
        A, pull = mechanics.expand(lambda q, v, c: 0.5 * m * v[0] ** 2 - 0.5 * k * q[0] ** 2, q, v, jnp.zeros(0))
        return A, A @ a - pull

    loss = force_likelihood(*jax.vmap(pieces)(q[:, None], v[:, None], a[:, None]), **EXACT)
    noise = a + k / m * q
    expected = -np.log(laplace(noise, b=np.abs(noise).mean())).mean()
    assert loss + np.log(2) + 1 == pytest.approx(expected, rel=1e-12)


def test_the_exact_form_is_least_over_the_scale_of_coupled_noise():
    A = np.array([[2.0, 0.7], [0.7, 0.5]])
    noise = STATES[:, 2]
    loss = float(force_likelihood(jnp.broadcast_to(A, (M, 2, 2)), jnp.asarray(noise @ A), **EXACT))

    def negative_log_density(b):  # of accelerations whose forces are Laplace noise
        return -np.log(np.linalg.det(A) * laplace(noise @ A, b).prod(axis=1)).mean()

    scales = np.geomspace(0.2, 5, 4001)
    assert loss + DOF * np.log(2) + DOF == pytest.approx(min(map(negative_log_density, scales)), rel=1e-6)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_the_trained_form_holds_the_scale_of_the_lagrangian_at_one(n):
    r = jnp.asarray(np.random.default_rng(1).normal(size=(M, n)))

    def along_scale(**form):
        scale = np.geomspace(0.02, 100, 200)  # of L, hence of A and of r
        return scale, np.asarray(everywhere(lambda s: force_likelihood(s * jnp.broadcast_to(jnp.eye(n), (M, n, n)), s * r, **form))(scale))

    scale, loss = along_scale()
    assert (np.diff(loss)[scale[1:] < 0.9] < 0).all()
    np.testing.assert_allclose(loss[scale > 1], loss[-1], atol=1e-6)
    assert loss[0] - loss[-1] > 1
    scale, unpinned = along_scale(pin=False)
    assert unpinned[0] < unpinned[-1] - 0.3  # without the pin L → 0 pays


def test_the_penalty_grows_as_an_eigenvalue_falls_through_zero_and_its_slope_stays_finite():
    λ, r = np.linspace(-3, 1, 201), jnp.ones((1, 2))

    def loss(λ):
        return force_likelihood(jnp.diag(jnp.stack([jnp.ones_like(λ), λ]))[None], r)

    value, slope = everywhere(jax.value_and_grad(loss))(λ)
    assert np.isfinite(value).all()
    assert (slope[λ < 0.9] < 0).all()
    assert np.isfinite(slope).all()
    np.testing.assert_allclose(np.gradient(value, λ)[1:-1], slope[1:-1], rtol=0.02, atol=1e-3)
    assert np.isinf(force_likelihood(jnp.diag(jnp.array([1.0, 0.0]))[None], r, **EXACT))


def test_the_continued_logarithm_is_the_logarithm_of_masses_and_a_straight_line_far_below_zero():
    λ = np.geomspace(0.2, 1e3, 60)
    np.testing.assert_allclose(np.exp(continued_log(jnp.asarray(λ))), λ, rtol=0.01)
    for dtype in (jnp.float32, jnp.float64):
        λ = jnp.array([-1e4, -3.0, -0.500001, -0.499999, 0.0, 1e-6, 1e4], dtype)
        value, slope = everywhere(jax.value_and_grad(continued_log))(λ)
        assert value.dtype == dtype
        assert np.isfinite(value).all()
        assert (np.diff(value) > 0).all()
        np.testing.assert_allclose(slope[:4], 20, rtol=1e-4)
        assert np.isfinite(slope).all()


def cube(λ):
    return λ**3


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize(("dtype", "precision"), [(jnp.float32, 1e-5), (jnp.float64, 1e-12)])
def test_a_trace_and_its_derivative_are_right_also_where_eigenvalues_coincide(n, dtype, precision):
    B = np.random.default_rng(n).normal(size=(n, n))
    u = B[:, :1] / np.linalg.norm(B[:, :1])
    A = np.stack([B + B.T, 1.3 * np.eye(n), 0.7 * np.eye(n) + u @ u.T])  # distinct, all equal, all but one
    value, slope = everywhere(jax.value_and_grad(lambda A: trace_of(cube, A)))(jnp.asarray(A, dtype))
    assert value.dtype == slope.dtype == dtype
    size = np.abs(A).max() ** 3 * n
    np.testing.assert_allclose(value, np.trace(A @ A @ A, axis1=1, axis2=2), rtol=precision, atol=precision * size)
    np.testing.assert_allclose((slope + slope.swapaxes(1, 2)) / 2, 3 * A @ A, rtol=precision, atol=precision * size)
    logarithms = everywhere(lambda A: trace_of(continued_log, A))(jnp.asarray(A, dtype))
    np.testing.assert_allclose(
        logarithms, np.log(np.log1p(np.exp(20 * np.linalg.eigvalsh(A))) / 20).sum(-1), rtol=10 * precision, atol=10 * precision
    )
