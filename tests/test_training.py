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

TINY = replace(PRESETS["laptop"], steps=12, chunk=4, warmup=2, batch=16)


@cache
def trainer(model: str, system: str = "double_pendulum", **changes) -> train.Trainer:
    physics, preset = systems.get(system), replace(TINY, **changes)
    return train.Trainer(cases.with_width(models.get(model), 16), physics, cases.drawn(physics, preset), preset)


@pytest.mark.parametrize(("model", "system"), [("lnn", "double_pendulum"), ("neural_ode", "relativistic_particle"), ("delan", "wave")])
def test_seeds_trained_in_one_program_are_those_trained_one_after_the_other(model, system):
    train_model, heard = trainer(model, system), []
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


def test_memory_of_weights_and_optimiser_is_given_back():
    train_model = trainer("mlp")
    model, state, key = train_model.start(0)
    train_model.chunk(model, state, key, jnp.array(0), train_model.training, length=4)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(model))
    assert sum(leaf.is_deleted() for leaf in jax.tree.leaves(state)) >= len(jax.tree.leaves(model))


def passes(loss, learner, batch) -> float:
    """Passes through the network that one gradient takes, a value counting 1."""
    value = flops(jax.vmap(lambda x, c: learner.lagrangian(x[0], x[1], c)), batch.x[:, 0], batch.c)
    return flops(jax.grad(lambda learner: loss(learner, batch)), learner) / value


def test_the_force_likelihood_takes_fewer_passes_than_the_forward_error():
    physics, preset = systems.get("double_pendulum"), replace(TINY, batch=128)
    wide = train.Trainer(cases.with_width(models.get("lnn"), 200), physics, cases.drawn(physics, preset), preset)
    learner, batch = wide.start(0)[0], measure.one_batch(wide)
    assert passes(lambda learner, batch: learner.log_forward_error(batch), learner, batch) == pytest.approx(18, rel=0.05)
    assert passes(lambda learner, batch: learner.force_likelihood(batch), learner, batch) == pytest.approx(12.75, rel=0.05)


def test_products_keep_all_bits_of_their_factors_on_every_device():
    text = compiled(lambda a: a @ a).lower(jnp.ones((4, 4), jnp.float32)).as_text()
    assert "HIGHEST" in text
