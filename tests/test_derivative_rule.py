"""The derivative rule of the Euler-Lagrange equation: whatever is differentiated, and however, it gives what the plain operations give."""

import gc
import weakref
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from specimens import compiled

from systems import _mechanics as mechanics


def random(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def forced(form, n, lattice=False, dtype=jnp.float64):
    """Acceleration(weights, q, v) of one state by some form of the equation, where the force too depends on weights and state; weights and
    three states; directions."""

    def acceleration(weights, q, v):
        w = jnp.asarray(random(100, 5), q.dtype)

        def L(q, v, c):
            return 0.5 * (v[1] ** 2 if lattice else v @ v) + 0.1 * jnp.tanh(jnp.concatenate([q, v]) @ weights) @ w

        return form(L, q, v, jnp.zeros(0, q.dtype), -0.3 * v + jnp.sin(q) * weights[0, 0], lattice)

    shapes = [(6 if lattice else 2 * n, 5), (3, n), (3, n)]
    at, along = (tuple(jnp.asarray(random(i + k, *shape), dtype) for k, shape in enumerate(shapes)) for i in (0, 10))
    return acceleration, at, along


def operation_by_operation(L, q, v, c, force, lattice):
    """The equation of motion without a derivative rule; a ring's density summed, and its mass matrix dense."""
    A, pull = mechanics.expand(mechanics.total(L, lattice), q, v, c)
    return jnp.linalg.solve(A, pull + force)


def squares(acceleration, weights, q, v):
    return (jax.vmap(acceleration, (None, 0, 0))(weights, q, v) ** 2).sum()


def assert_equal(ours, direct, precision):
    """Leaf by leaf, to a precision relative to a leaf's largest number."""
    ours, direct = jax.tree.leaves(ours), jax.tree.leaves(direct)
    for a, b in zip(ours, direct, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, rtol=0, atol=precision * np.abs(b).max())


SIZES = [(1, False), (2, False), (3, False), (4, False), (3, True), (7, True), (8, True)]


@pytest.mark.parametrize(
    ("n", "lattice", "dtype", "precision"), [(*size, jnp.float64, 1e-12) for size in SIZES] + [(*size, jnp.float32, 1e-5) for size in SIZES[1::4]]
)
def test_the_derivative_rule_sees_a_force_that_depends_on_the_state_and_works_on_a_ring(n, lattice, dtype, precision):
    def accelerations_and_jacobians(form):
        acceleration, at, _ = forced(form, n, lattice, dtype)
        return compiled(lambda: (each(lambda a, _: a)(acceleration, at), each(jax.jacrev)(acceleration, at)))()

    assert_equal(*map(accelerations_and_jacobians, (mechanics.euler_lagrange, operation_by_operation)), precision)


def path(acceleration, weights, q, v):
    """Squares at the end of a motion of four steps."""

    def step(at, _):
        return (at[0] + 0.1 * at[1], at[1] + 0.1 * jax.vmap(acceleration, (None, 0, 0))(weights, *at)), None

    return sum((x**2).sum() for x in jax.lax.scan(step, (q, v), None, length=4)[0])


def either(acceleration, weights, q, v):
    """Squares, in a branch of a condition."""
    return jax.lax.cond(weights[0, 0] > 100, lambda: 0.0 * weights.sum(), lambda: squares(acceleration, weights, q, v))


def each(derivative):
    """A derivative of the acceleration, at every state."""
    return lambda a, at, _=None: jax.vmap(derivative(a, (0, 1, 2)), (None, 0, 0))(*at)


def gradient(function=squares, by=(0, 1, 2)):
    return lambda a, at, _: jax.grad(partial(function, a), by)(*at)


def product(a, at, along):
    """Gradient times direction."""
    return sum((slope * d).sum() for slope, d in zip(gradient()(a, at, along), along, strict=True))


def curvature(a, at, along):
    """Second derivative of the squares by the weights, along a direction, from two gradients."""
    return jax.grad(lambda weights: (jax.grad(partial(squares, a))(weights, *at[1:]) * along[0]).sum())(at[0])


def sensitivity(a, at, _):
    """Gradient of a loss that holds Jacobians of the acceleration, taken forwards."""
    return jax.grad(lambda weights: (jax.vmap(lambda q, v: jax.jacfwd(a, 1)(weights, q, v))(*at[1:]) ** 2).sum())(at[0])


def for_many_weights(derivative):
    """What a derivative gives for two sets of weights at once, of which the first is `at`'s."""

    def many(a, at, along):
        both = jnp.stack([at[0], at[0] + along[0]])
        return jax.tree.map(lambda x: x[0], jax.vmap(lambda weights: derivative(a, (weights, *at[1:]), along))(both))

    return many


PLAINLY = {
    "squares": lambda a, at, _: squares(a, *at),
    "gradient": gradient(),
    "by q": gradient(by=1),
    "path": gradient(path),
    "Jacobian": each(jax.jacfwd),
    "product": product,
    "curvature": curvature,
    "sensitivity": sensitivity,
}
# a use of derivatives, and what the plain operations give that must be the same
USES = {
    "value": (PLAINLY["squares"], "squares"),
    "gradient of a compiled function": (lambda a, at, _: jax.grad(jax.jit(partial(squares, a)), (0, 1, 2))(*at), "gradient"),
    "gradient of a compiled function of the state alone": (lambda a, at, _: jax.grad(jax.jit(lambda q: squares(a, at[0], q, at[2])))(at[1]), "by q"),
    "gradient for many weights": (for_many_weights(gradient()), "gradient"),
    "gradient for many weights by the state alone": (
        for_many_weights(lambda a, at, _: jax.grad(jax.jit(lambda q: squares(a, at[0], q, at[2])))(at[1])),
        "by q",
    ),
    "recomputed on the way back": (lambda a, at, _: jax.grad(jax.checkpoint(partial(squares, a)), (0, 1, 2))(*at), "gradient"),
    "in a branch": (gradient(either), "gradient"),
    "in a loop": (gradient(path), "path"),
    "Jacobian, forwards": (each(jax.jacfwd), "Jacobian"),
    "Jacobian, backwards": (each(jax.jacrev), "Jacobian"),
    "along a direction": (lambda a, at, along: jax.jvp(partial(squares, a), at, along)[1], "product"),
    "gradient of a gradient": (curvature, "curvature"),
    "Jacobian of a gradient": (lambda a, at, along: jnp.tensordot(jax.jacfwd(jax.grad(partial(squares, a)))(*at), along[0], 2), "curvature"),
    "gradient of a Jacobian": (sensitivity, "sensitivity"),
}


@cache
def plainly(what, n, lattice):
    """A quantity by the plain operations, compiled once for all uses that must agree with it."""
    acceleration, at, along = forced(operation_by_operation, n, lattice)
    return compiled(partial(PLAINLY[what], acceleration))(at, along)


@pytest.mark.parametrize(
    ("use", "n", "lattice"), [(use, 2, False) for use in USES] + [("gradient of a gradient", 4, False), ("gradient of a gradient", 7, True)]
)
def test_the_derivative_rule_serves_every_use_of_derivatives(use, n, lattice):
    acceleration, at, along = forced(mechanics.euler_lagrange, n, lattice)
    how, plain = USES[use]
    assert_equal(compiled(partial(how, acceleration))(at, along), plainly(plain, n, lattice), 1e-12)


def test_an_equation_of_motion_is_forgotten_once_it_is_traced():
    """Else every model that was ever traced would stay in memory."""
    kept = []

    def squared(W):
        def L(q, v, c):
            return 0.5 * v @ v + jnp.tanh(q @ W) @ v

        kept.append(weakref.ref(L))
        return (mechanics.euler_lagrange(L, jnp.ones(2), jnp.ones(2), jnp.zeros(0)) ** 2).sum()

    jax.jit(jax.grad(squared)).lower(jnp.eye(2))
    gc.collect()
    assert [L() for L in kept] == [None]
