"""Training: seeds in one program, no compilation for more seeds, and what a step costs."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from specimens import compiled

import models
import systems
from bench import cases, grid, measure, results, train, worker
from bench.flops import flops
from bench.presets import PRESETS
from bench.worker import Event, Job
from models import Shape

TINY = replace(PRESETS["laptop"], steps=12, chunk=4, warmup=2, batch=16)


@cache
def trainer(model: str, system: str = "double_pendulum", **changes) -> train.Trainer:
    physics, preset = systems.get(system), replace(TINY, **changes)
    return train.Trainer(cases.with_width(models.get(model), 16), physics, cases.drawn(physics, preset), preset)


@pytest.mark.parametrize(("model", "system"), [("lnn", "double_pendulum"), ("neural_ode", "relativistic_particle"), ("delan", "wave")])
def test_seeds_trained_in_one_program_are_those_trained_one_after_the_other(model, system):
    # with Adam: SOAP's bases of a null space are whatever rounding makes of it, which differs between the two programs
    train_model, heard = trainer(model, system, optimizer="adam"), []
    together = train_model((3, 5), lambda *event: heard.append(event))
    assert [(seed, step) for seed, step, _ in heard] == [(3, 4), (5, 4), (3, 8), (5, 8), (3, 12), (5, 12)]
    for seed, one in zip((3, 5), together, strict=True):
        (alone,) = train_model((seed,))
        for a, b in zip(jax.tree.leaves(alone.model), jax.tree.leaves(one.model), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)
        np.testing.assert_allclose(alone.history["train_loss"], one.history["train_loss"], rtol=1e-3)
        assert alone.validation_loss == pytest.approx(one.validation_loss, rel=1e-3)
    assert together[0].validation_loss != together[1].validation_loss


def test_a_device_with_room_trains_all_seeds_of_a_cell_in_one_program(tmp_path, monkeypatch):
    changes = {"systems": ("relativistic_particle",), "models": ("hnn",), "seeds": (0, 1), "steps": 10, "chunk": 5, "warmup": 2, "data_share": 0.005}
    cell = grid.Cell(replace(PRESETS["smoke"], **changes), "relativistic_particle", "hnn")
    usual, apart = cell.run_id(0), cell.programs((0, 1))
    monkeypatch.setattr(grid, "_all_seeds_at_once", lambda: True)
    assert (apart, cell.programs((0, 1))) == ([(0,), (1,)], [(0, 1)])
    events: list[Event] = []
    worker.perform(Job("run", cell, (0, 1), tmp_path / "results", tmp_path / "cache"), events.append)
    assert [(e.what, e.seed) for e in events[:4]] == [("started", 0), ("started", 1), ("step", 0), ("step", 1)]
    for seed in (0, 1):
        result = results.read(grid.folder(tmp_path / "results", cell.run_id(seed)))
        assert result["status"] == "finished"
        assert "one program for all seeds" in result["provenance"]["execution"]
    assert cell.run_id(0) != usual


def test_a_seed_that_diverges_leaves_the_others_of_its_program_alone():
    train_model = trainer("second_order_ode")
    calm = train_model((1, 2))
    start = train_model.start

    def poisoned(seed):
        model, state, key = start(seed)
        return (jax.tree.map(lambda leaf: leaf * jnp.nan, model) if seed == 1 else model), state, key

    train_model.start = poisoned
    try:
        lost, other = train_model((1, 2))
        (alone,) = train_model((1,))
    finally:
        train_model.start = start
    assert (lost.diverged_at, other.diverged_at, alone.diverged_at) == (0, None, 0)
    assert list(lost.history["step"]) == list(alone.history["step"]) == [4]
    assert other.validation_loss == calm[1].validation_loss


def test_the_step_at_which_a_later_chunk_diverges_is_told():
    train_model = trainer("second_order_ode", learning_rate=1e30)
    (lost,) = train_model((1,))
    assert lost.diverged_at is not None
    assert 0 < lost.diverged_at < TINY.steps
    assert not np.isfinite(lost.history["train_loss"][-1])


def test_weights_that_are_not_finite_after_the_last_step_count_as_diverged_at_it():
    train_model = trainer("second_order_ode", steps=1, chunk=1, optimizer="adam", learning_rate=1e39)  # beyond single precision
    (lost,) = train_model((1,))
    assert np.isfinite(lost.history["train_loss"]).all()
    assert not train.is_finite(lost.model)
    assert lost.diverged_at == 1


def test_more_seeds_compile_nothing():
    train_model, compiler = trainer("hnn"), measure.Compiler()
    train_model((0,))
    before = compiler.programs
    assert before > 0
    train_model((1,))
    assert compiler.programs == before


def conditions(jaxpr) -> int:
    """Conditions in a program, those of inner programs included."""
    inner = [j for equation in jaxpr.eqns for value in equation.params.values() for j in jax.tree.leaves(value, is_leaf=lambda v: hasattr(v, "eqns"))]
    inner = [getattr(j, "jaxpr", j) for j in inner]
    return sum(e.primitive.name == "cond" for e in jaxpr.eqns) + sum(conditions(j) for j in inner if hasattr(j, "eqns"))


@pytest.mark.parametrize("seeds", [1, 3])
def test_bases_are_turned_under_one_condition_that_seeds_of_one_program_share(seeds):
    train_model = trainer("second_order_ode")
    starts = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(train_model.start(seed) for seed in range(seeds)))
    program = train_model.chunk_together if seeds > 1 else train_model.chunk
    start = starts if seeds > 1 else train_model.start(0)
    assert conditions(jax.make_jaxpr(program)(*start, np.int32(0), train_model.training, np.int32(4)).jaxpr) == 1


@pytest.mark.parametrize(("name", "at", "share"), [("cosine", 60, 0.5), ("trapezoidal", 60, 1.0), ("trapezoidal", 82, 0.514), ("cosine", 10, 0.5)])
def test_the_learning_rate_rises_and_falls_as_its_schedule_says(name, at, share):
    rate = train.schedule(replace(TINY, steps=100, warmup=20, schedule=name))
    assert float(rate(at)) == pytest.approx(share, rel=0.01)
    assert float(rate(0)) == 0.0
    assert float(rate(100)) == pytest.approx(0.0, abs=1e-6)


def test_fresh_states_are_true_and_other_ones_at_every_step():
    train_model = trainer("hnn", system="relativistic_particle", models=("hnn",), sampling="fresh")
    one, two = (train_model.batch(jax.random.fold_in(jax.random.key(0), step), train_model.training) for step in (0, 1))
    assert one.x.shape == (16, 1, 2, 1)
    assert not set(np.ravel(one.x)) & set(np.ravel(two.x))
    x, c = np.float64(one.x[:, 0]), np.float64(one.c)
    truth = jax.vmap(lambda x, c: train_model.system.field(x, c, "qp"))(x, c)
    slow = np.abs(x[:, 1, 0]) < 50  # faster ones have lost their velocity to single precision
    np.testing.assert_allclose(one.rate[slow, 0], truth[slow], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["soap", "muon", "adam"])
def test_another_learning_rate_is_the_same_program_and_another_training(optimizer):
    one, other = (trainer("second_order_ode", optimizer=optimizer, learning_rate=rate) for rate in (1e-3, 2e-3))
    programs = [t.chunk.lower(*t.start(0), np.int32(0), t.training, np.int32(4)).as_text() for t in (one, other)]
    assert programs[0] == programs[1]
    change = [t.chunk(*t.start(0), np.int32(2), t.training, np.int32(1))[0] for t in (one, other)]
    start = one.start(0)[0]
    for w, a, b in zip(*map(jax.tree.leaves, (start, *change)), strict=True):
        np.testing.assert_allclose(b - w, 2 * (a - w), rtol=0.02, atol=1e-6)


def test_memory_of_weights_and_optimiser_is_given_back():
    train_model = trainer("mlp")
    model, state, key = train_model.start(0)
    train_model.chunk(model, state, key, np.int32(0), train_model.training, np.int32(4))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(model))
    assert sum(leaf.is_deleted() for leaf in jax.tree.leaves(state)) >= len(jax.tree.leaves(model))


def passes(loss, learner, batch) -> float:
    """Passes through the network that one gradient takes, a value counting 1."""
    value = flops(jax.vmap(lambda x, c: learner.lagrangian(x[0], x[1], c)), batch.x[:, 0], batch.c)
    return flops(jax.grad(lambda learner: loss(learner, batch)), learner) / value


def test_the_force_likelihood_takes_fewer_passes_than_the_forward_error():
    physics, preset = systems.get("double_pendulum"), replace(TINY, batch=128)
    lnn = models.get("lnn")
    plain = type("LNN", (lnn,), {"settings": replace(lnn.variants["plain"], shape=Shape(width=200))})
    wide = train.Trainer(plain, physics, cases.drawn(physics, preset), preset)
    learner, batch = wide.start(0)[0], measure.one_batch(wide)
    assert passes(lambda learner, batch: learner.log_forward_error(batch), learner, batch) == pytest.approx(18, rel=0.05)
    assert passes(lambda learner, batch: learner.force_likelihood(batch), learner, batch) == pytest.approx(12.75, rel=0.05)


def test_products_keep_all_bits_of_their_factors_on_every_device():
    text = compiled(lambda a: a @ a).lower(jnp.ones((4, 4), jnp.float32)).as_text()
    assert "HIGHEST" in text
