"""Models that are handed the truth reproduce it, and models with any weights keep what their form promises."""

import closed_forms as textbook
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from specimens import build, compiled, everywhere, recorded, scales

import models
import systems
from models.delan import OFFSET, positive
from systems import _integrators as integrators

LNN, HNN, DeLaN = (models.get(name) for name in ("lnn", "hnn", "delan"))
START = jnp.log(jnp.expm1(positive(0.0) - OFFSET))  # softplus(START) + OFFSET is what `positive` makes of 0
HAMILTONIANS = {
    "double_pendulum": textbook.pendulum_hamiltonian,
    "relativistic_particle": textbook.particle_hamiltonian,
    "wave": textbook.wave_hamiltonian,
}
MASSES = {
    "double_pendulum": (textbook.pendulum_mass_matrix, textbook.pendulum_potential),
    "wave": (lambda s, q: jnp.eye(1), lambda s, q: textbook.wave_hamiltonian(s, q, jnp.zeros(3), None)),
}

every_system = pytest.mark.parametrize("name", systems.names())


def assert_is_the_truth(model, name):
    """Derivative and energy of a model are the system's, at random states."""
    (x, rate, c), (x_qv, _, _) = recorded(name, model.chart), recorded(name)
    found, energy, true_energy = everywhere(lambda x, x_qv, c: (model.derivative(x, c), model.energy(x, c), systems.get(name).energy(x_qv, c)))(
        x, x_qv, c
    )
    np.testing.assert_allclose(found, rate, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(energy, true_energy, rtol=1e-10)


@every_system
def test_an_lnn_given_the_true_lagrangian_is_the_truth(name):
    system = systems.get(name)

    class TrueLNN(LNN):
        def __init__(self):
            self.spec, self.scales = system.spec, scales(name, "qv")

        def lagrangian(self, q, v, c):
            return system.lagrangian(q, v, c)

    assert_is_the_truth(TrueLNN(), name)


@pytest.mark.parametrize("name", HAMILTONIANS)
def test_an_hnn_given_the_true_hamiltonian_is_the_truth(name):
    system = systems.get(name)

    class TrueHNN(HNN):
        def __init__(self):
            self.spec, self.scales = system.spec, scales(name, "qp")

        def hamiltonian(self, q, p, c):
            return HAMILTONIANS[name](system, q, p, c)

    assert_is_the_truth(TrueHNN(), name)


@pytest.mark.parametrize("name", MASSES)
def test_a_delan_given_the_true_masses_and_potential_is_the_truth(name):
    system, (mass, potential) = systems.get(name), MASSES[name]

    class TrueDeLaN(DeLaN):
        def __init__(self):
            self.spec, self.scales = system.spec, scales(name, "qv")

        def factors(self, q, v, c):
            """Entries of C with C Cᵀ = M, velocities in units of their spread, as `positive` is to find them."""
            σ = jnp.array(self.scales.v)
            C = jnp.linalg.cholesky(mass(system, q) * σ * σ[:, None] - system.spec.lattice * OFFSET**2)
            diagonal = jnp.log(jnp.expm1(jnp.diag(C) - OFFSET)) - START
            return jnp.concatenate([diagonal, jnp.zeros(1) if system.spec.lattice else C[np.tril_indices(len(σ), -1)]])

        def potential(self, q, v, c):
            return potential(system, q)

    assert_is_the_truth(TrueDeLaN(), name)


@pytest.mark.parametrize("model", [LNN, HNN, DeLaN])
@every_system
def test_no_model_field_leads_away_from_its_own_energy(model, name):
    made = build(model, name, dtype=jnp.float64)
    x, _, c = recorded(name, model.chart)

    def power(x, c):
        gradient, rate = jax.grad(made.energy)(x, c), made.derivative(x, c)
        return (gradient * rate).sum(), jnp.abs(gradient * rate).sum()

    gained, exchanged = everywhere(power)(x, c)
    assert (exchanged > 0).all()
    np.testing.assert_allclose(gained / exchanged, 0, atol=1e-10)


@pytest.mark.parametrize("model", [LNN, HNN, DeLaN])
def test_a_model_keeps_its_own_energy_as_well_as_the_integrator_lets_it(model):
    made = build(model, "double_pendulum", dtype=jnp.float64)
    x, _, c = recorded("double_pendulum", model.chart)
    T = 2.0

    def drift(x, c, steps):
        def field(x):  # of time counted in steps
            return T / steps * made.derivative(x, c)

        end = jax.lax.fori_loop(0, steps, lambda _, x: integrators.step(field, x, 1.0), x)
        return made.energy(end, c) - made.energy(x, c)

    drifts, steps = compiled(jax.vmap(drift, (0, 0, None))), np.array([16, 32, 64])
    log_drifts = [np.log(np.median(np.abs(drifts(x, c, n)))) for n in steps]
    assert np.polyfit(-np.log(steps), log_drifts, 1)[0] > integrators.ORDER - 0.3


@every_system
def test_the_masses_of_a_delan_are_positive_whatever_its_weights(name):
    x, _, c = recorded(name)
    least = compiled(lambda model: jnp.linalg.eigvalsh(jax.vmap(model.mass_matrix)(x, c)).min())
    for seed in range(3):
        made = build(DeLaN, name, seed, dtype=jnp.float64)
        for gain in (1, 5):
            assert least(jax.tree.map(lambda w, gain=gain: gain * w, made)) > 0
