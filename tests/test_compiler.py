"""Canaries: what XLA compiles is what was written. jaxlib 0.10.2 returns wrong numbers on CPU for the first of them (jax issue 39103)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import systems  # noqa: F401  (double precision)


@pytest.mark.parametrize(("dtype", "n"), [(jnp.float64, 16_400), (jnp.float32, 32_800)])
def test_compiled_kinetic_energies_of_many_states_are_those_computed_one_by_one(dtype, n):
    M = np.array([[2.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 4.0]])
    v = np.random.default_rng(0).integers(-9, 10, (n, 3)).astype(float)  # small integers: sums are exact in any order
    mass, velocities = jnp.asarray(M, dtype), jnp.asarray(v, dtype)

    def momenta(v):
        return mass @ v

    squares = jax.jit(jax.vmap(lambda v: jnp.sum(momenta(v) ** 2)))(velocities)
    energies = jax.jit(jax.vmap(lambda v: v @ momenta(v)))(velocities)
    np.testing.assert_array_equal(squares, ((v @ M) ** 2).sum(1))
    np.testing.assert_array_equal(energies, (v @ M * v).sum(1))
