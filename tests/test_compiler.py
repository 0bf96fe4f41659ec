"""Canaries: what XLA compiles is what was written. jaxlib 0.10.2 returns wrong numbers on CPU for the first of them (jax issue 39103)."""

import pytest

import systems  # noqa: F401  (double precision)
from bench.doctor import CANARIES, compiler_is_sound


@pytest.mark.parametrize(("dtype", "n"), CANARIES)
def test_compiled_kinetic_energies_of_many_states_are_those_computed_one_by_one(dtype, n):
    assert compiler_is_sound(dtype, n)
