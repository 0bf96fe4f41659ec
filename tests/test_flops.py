"""Operations are counted as on paper."""

import jax
import jax.numpy as jnp

from bench.flops import flops


def test_a_product_of_matrices_costs_twice_mnk():
    assert flops(lambda a, b: a @ b, jnp.ones((3, 5)), jnp.ones((5, 7))) == 2 * 3 * 5 * 7


def test_a_loop_costs_its_body_times_its_length():
    def loop(x):
        return jax.lax.scan(lambda x, _: (jnp.sin(x), None), x, None, length=11)[0]

    assert flops(loop, jnp.ones(4)) == 11 * 4
    assert flops(lambda x: jax.lax.fori_loop(0, 6, lambda _, x: x * x, x), jnp.ones(4)) >= 6 * 4


def test_of_two_branches_the_dearer_one_counts():
    def branches(x):
        return jax.lax.cond(x[0, 0] > 0, lambda x: x @ x, lambda x: x, x)

    assert flops(branches, jnp.ones((8, 8))) - 2 * 8**3 < 10


def test_jit_and_vmap_change_nothing_but_the_size():
    def f(x):
        return jnp.exp(x).sum()

    assert flops(jax.jit(f), jnp.ones(10)) == flops(f, jnp.ones(10)) == 20
    assert flops(jax.vmap(f), jnp.ones((3, 10))) == 60


def test_a_function_with_rules_of_its_own_costs_what_it_computes():
    """Not nothing, and not its rules too, in whatever form a version of jax writes it."""
    by_tangent, by_cotangent = jax.custom_jvp(jnp.sin), jax.custom_vjp(jnp.sin)
    by_tangent.defjvp(lambda x, dx: (jnp.sin(*x), jnp.cos(*x) * dx[0]))
    by_cotangent.defvjp(lambda x: (jnp.sin(x), x), lambda x, dx: (jnp.cos(x) * dx,))
    for function in (by_tangent, by_cotangent, jax.checkpoint(jnp.sin)):
        assert flops(function, jnp.ones(4)) == 4
        assert flops(jax.grad(lambda x, f=function: f(x).sum()), jnp.ones(4)) == 8

    def solved(A, b):
        return jax.lax.custom_linear_solve(lambda x: A @ x, b, lambda _, b: A @ b, symmetric=True)

    def root(A, b):
        return jax.lax.custom_root(lambda x: A @ x - b, b, lambda _, b: A @ b, lambda _, b: A @ b)

    for function in (solved, root):
        assert flops(function, jnp.eye(4), jnp.ones(4)) == 2 * 4 * 4
