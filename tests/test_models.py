"""What every model keeps to, on every system: precision, symmetry, and a loss that can be descended."""

import re
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from specimens import batch, build, compiled, everywhere, recorded

import models
import systems
from models import Batch, Model, either
from systems import _integrators as integrators

# all that a model may know of a system is its Spec: one system of each is every system
SYSTEMS = list({systems.get(name).spec: name for name in reversed(systems.names())}.values())
ANGULAR = [name for name in SYSTEMS if any(systems.get(name).spec.is_angle())]
RINGS = [name for name in SYSTEMS if systems.get(name).spec.lattice]
STRAIGHT = [name for name in SYSTEMS if name not in ANGULAR + RINGS]

every_model = pytest.mark.parametrize("model", models.names())
every_system = pytest.mark.parametrize("system", SYSTEMS)


@cache
def training(model: str, system: str):
    """(jaxpr, compiled function) of (model, batch, progress) -> (loss, gradient) in single precision."""
    kind = models.get(model)
    data = batch(kind, system)

    def objective(model, data, progress):
        return model.loss(data, progress)

    traced = compiled(jax.value_and_grad(objective)).trace(build(kind, system), data, jnp.float32(0))
    run = traced.lower().compile()
    return traced.jaxpr, lambda model, data, progress: run(model, data, jnp.float32(progress))


def prediction(model, x, c):
    """What a model says of one state: its derivative, or the change that a frame brings."""
    return model.step(x, c) - x if hasattr(model, "step") else model.derivative(x, c)


@cache
def predictor(model: str, system: str):
    """A small random model in double precision and its predictions for eight states, compiled."""
    return build(models.get(model), system, dtype=jnp.float64), compiled(jax.vmap(prediction, (None, 0, 0)))


def eight(model: str, system: str):
    x, _, c = recorded(system, models.get(model).chart)
    return x[:8], c[:8]


@every_model
@every_system
def test_loss_and_gradient_are_finite_from_the_first_step_to_the_last(model, system):
    _, loss_and_gradient = training(model, system)
    for progress in (0.0, 0.5, 1.0):
        loss, gradient = loss_and_gradient(build(models.get(model), system), batch(models.get(model), system), progress)
        assert np.isfinite(loss)
        leaves = list(map(np.asarray, jax.tree.leaves(gradient)))
        assert all(np.isfinite(leaf).all() for leaf in leaves)
        assert any(np.abs(leaf).max() > 0 for leaf in leaves)


@every_model
@every_system
def test_training_computes_in_single_precision(model, system):
    jaxpr, _ = training(model, system)
    text = str(jaxpr)
    assert re.search(r"\bf32\[\d", text)
    assert not re.search(r"\bf64\[\d", text)


@every_model
@every_system
def test_a_model_is_its_weights_in_single_precision_and_a_seed_changes_nothing_else(model, system):
    first, second = (build(models.get(model), system, seed) for seed in (0, 1))
    assert jax.tree.structure(first) == jax.tree.structure(second)
    leaves = [list(map(np.asarray, jax.tree.leaves(made))) for made in (first, second)]
    assert {leaf.dtype for leaf in leaves[0]} == {np.dtype("float32")}
    assert any((a != b).any() for a, b in zip(*leaves, strict=True))


@every_model
@pytest.mark.parametrize("ring", RINGS)
def test_on_the_ring_every_site_is_like_any_other(model, ring):
    made, predict = predictor(model, ring)
    x, c = eight(model, ring)
    expected = np.asarray(predict(made, x, c))
    assert np.abs(np.diff(expected)).max() > 1e-3
    for sites in (1, 5):
        np.testing.assert_allclose(predict(made, np.roll(x, sites, -1), c), np.roll(expected, sites, -1), rtol=1e-8, atol=1e-10)


@every_model
@pytest.mark.parametrize("system", ANGULAR)
def test_an_angle_and_the_same_after_a_turn_are_one(model, system):
    made, predict = predictor(model, system)
    x, c = eight(model, system)
    angle = np.array(systems.get(system).spec.is_angle())

    def after(turns):
        return np.asarray(predict(made, x + 2 * np.pi * np.stack([turns * angle, 0 * turns * angle], axis=1), c))

    turns = np.array([[1], [-1], [2], [0], [1], [1], [-3], [1]])
    np.testing.assert_allclose(after(turns), after(0 * turns), rtol=1e-9, atol=1e-10)
    assert np.abs(after(0.5 * turns) - after(0 * turns)).max() > 1e-3


@every_model
@pytest.mark.parametrize("system", STRAIGHT)
def test_the_unit_of_length_changes_nothing(model, system):
    made, predict = predictor(model, system)
    x, c = eight(model, system)
    length, field = 7.0, 0.2
    old = made.scales
    q, v, rate = (tuple(length * s for s in spread) for spread in (old.q, old.v, old.rate))
    spreads = models.Scales(q, v, rate, tuple(field * s for s in old.c), old.frame)
    other = build(models.get(model), system, dtype=jnp.float64, spreads=spreads)
    np.testing.assert_allclose(predict(other, length * x, field * c), length * np.asarray(predict(made, x, c)), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("model", ["second_order_ode", "lnn", "delan"])
@every_system
def test_velocity_is_the_derivative_of_position_exactly(model, system):
    made, predict = predictor(model, system)
    x, c = eight(model, system)
    np.testing.assert_array_equal(predict(made, x, c)[:, 0], x[:, 1])


@every_system
def test_the_naive_hnn_writes_hamiltons_equations_with_velocity_for_momentum(system):
    naive, predict = predictor("hnn_naive", system)
    x, c = eight("hnn_naive", system)
    dH_dq, dH_dv = np.asarray(everywhere(jax.grad(naive.energy))(x, c)).swapaxes(0, 1)
    np.testing.assert_allclose(predict(naive, x, c), np.stack([dH_dv, -dH_dq], axis=1), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("ring", RINGS)
def test_on_a_ring_whose_momenta_are_velocities_the_naive_hnn_is_the_hnn(ring):
    hnn, naive = (predictor(name, ring) for name in ("hnn", "hnn_naive"))
    x, c = eight("hnn", ring)
    assert (hnn[0].chart, naive[0].chart) == ("qp", "qv")
    np.testing.assert_allclose(x, eight("hnn_naive", ring)[0], atol=1e-12)
    np.testing.assert_allclose(hnn[1](hnn[0], x, c), naive[1](naive[0], x, c), rtol=1e-9, atol=1e-12)


def missed_by(error, model: str, system: str) -> models.Batch:
    """A batch of which the model predicts q̇ exactly, and v̇ (for a map: v) with an error of so many spreads everywhere."""
    kind = models.get(model)
    made, predict = predictor(model, system)
    x, rate, c = batch(kind, system, jnp.float64)
    offset = np.array([[0.0], [error]]) * np.asarray(made.rate_scale(jnp.asarray(x)))
    if kind.span(4) == 1:
        rate = (np.asarray(predict(made, x[:, 0], c)) + offset)[:, None]
    else:
        frame = made.scales.frame

        def step(x, c):
            return made.step(x, c) if hasattr(made, "step") else integrators.advance(lambda x: made.derivative(x, c), x, frame, made.substeps)

        frames = everywhere(lambda x, c: integrators.rollout(lambda x: step(x, c), x, kind.span(4) - 1))(x[:, 0], c)
        x = np.concatenate([x[:, :1], np.asarray(frames) + frame * offset], axis=1)
    return jax.tree.map(lambda a: a.astype(np.float32), models.Batch(x, rate, c))


MEAN_ERROR = [name for name in models.names() if models.get(name).loss is models.VectorField.loss] + ["mlp"]


@pytest.mark.parametrize("model", MEAN_ERROR)
@pytest.mark.parametrize("system", ANGULAR + RINGS)
def test_a_loss_is_the_mean_error_over_positions_and_velocities(model, system):
    _, loss_and_gradient = training(model, system)
    loss, _ = loss_and_gradient(build(models.get(model), system), missed_by(0.1, model, system), 0.5)
    assert float(loss) == pytest.approx((0 + 0.1) / 2, rel=1e-3)


@pytest.mark.parametrize("system", ANGULAR + RINGS)
def test_an_lnn_ends_its_training_on_the_log_of_its_error(system):
    _, loss_and_gradient = training("lnn", system)
    loss, _ = loss_and_gradient(build(models.get("lnn"), system), missed_by(0.1, "lnn", system), 1.0)
    assert float(loss) == pytest.approx(systems.get(system).spec.dof * np.log(0.1), rel=1e-3)


@pytest.mark.parametrize("system", ANGULAR)
def test_an_lnn_starts_its_training_on_the_likelihood_of_the_force_that_it_misses(system):
    _, loss_and_gradient = training("lnn", system)
    made, _ = predictor("lnn", system)
    loss, _ = loss_and_gradient(build(models.get("lnn"), system), missed_by(0.1, "lnn", system), 0.0)
    x, c = eight("lnn", system)
    masses = np.asarray(everywhere(made.mass_matrix)(x, c))
    force = masses @ (0.1 * np.divide(made.scales.rate, made.scales.v))
    some = masses[: round(made.volume_share * len(masses))]
    log_det = np.log(np.linalg.det(some)).mean()  # of masses near one, where the logarithm isn't continued
    assert float(loss) == pytest.approx(force.shape[1] * np.log(np.abs(force).mean()) - log_det + max(0, -log_det) ** 2, rel=1e-2)


# two phases of a training ---------------------------------------------------------------------------------------------


class Number(Model):
    """One number w, with losses (w − x)² first and w³ x afterwards."""

    def __init__(self, w):
        self.w = nnx.Param(jnp.array(w))

    def first(self, batch):
        return (self.w[...] - batch.x.sum()) ** 2

    def last(self, batch):
        return self.w[...] ** 3 * batch.x.sum()

    def loss(self, batch, progress):
        return either(Number.first, Number.last, progress < 0.75, self, batch)


ONE = Batch(x=jnp.full((1, 1, 2, 1), 2.5), rate=jnp.zeros((1, 1, 2, 1)), c=jnp.zeros((1, 0)))  # Σx = 5


@pytest.mark.parametrize(("progress", "loss", "slope"), [(0.0, 9.0, -6.0), (0.7499, 9.0, -6.0), (0.75, 40.0, 60.0), (1.0, 40.0, 60.0)])
def test_each_phase_of_a_training_has_its_own_loss_and_gradient(progress, loss, slope):
    found, gradient = compiled(jax.value_and_grad(lambda model: 7 * model.loss(ONE, jnp.array(progress))))(Number(2.0))
    assert found == 7 * loss
    assert gradient.w[...] == 7 * slope


def test_several_models_of_one_program_share_the_condition_of_a_phase():
    several = jax.tree.map(lambda *leaves: jnp.stack(leaves), Number(2.0), Number(3.0))

    def gradients(several, progress):
        return jax.vmap(jax.grad(lambda model: model.loss(ONE, progress)))(several)

    assert "select_n" not in str(jax.make_jaxpr(gradients)(several, jnp.array(0.1)))
    np.testing.assert_array_equal(gradients(several, jnp.array(0.1)).w[...], [-6.0, -4.0])
    np.testing.assert_array_equal(gradients(several, jnp.array(0.9)).w[...], [60.0, 135.0])
