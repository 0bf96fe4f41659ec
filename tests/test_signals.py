"""What models learn from: each its own signal, true derivatives, or frames alone."""

from dataclasses import replace
from functools import cache
from math import ceil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from rich.console import Console
from specimens import HASTE, batch, build, compiled, recorded, scales

import models
import systems
from bench import cases, cli, data, grid, train
from bench.presets import PRESETS, Preset, Unlearnable
from bench.run import run_table1
from models import Batch, VectorField
from models._likelihood import force_likelihood
from models._model import Settings
from systems._integrators import advance, rollout
from systems._rows import UnknownName

PARTICLE, PENDULUM = "relativistic_particle", "double_pendulum"
FIELDS = [name for name in models.names() if issubclass(models.get(name), VectorField)]
TINY = replace(PRESETS["smoke"], systems=(PARTICLE,), steps=6, chunk=3, optimizer="adam", warmup=2, data_share=0.005, horizon_share=0.1)


def value(model, batch, signal, progress=1.0) -> float:
    return float(compiled(lambda model, batch: model.loss_from(signal, batch, jnp.float32(progress)))(model, batch))


def written_out(model, batch, signal) -> float:
    """The losses of derivatives and of frames as equations, apart from the models."""

    def loss(model, batch):
        x, rate, c = batch
        if signal == "derivatives":
            error = jax.vmap(jax.vmap(model.derivative, (0, None)))(x, c) - rate
            return jnp.abs(error / model.rate_scale(x)).mean()
        frame, changes = model.scales.frame, max(r / v for r, v in zip(model.scales.rate, model.scales.v, strict=True))
        substeps = ceil(frame * changes / 0.35)

        def motion(start, c):
            return rollout(lambda x: advance(lambda x: model.derivative(x, c), x, frame, substeps), start, x.shape[1] - 1)

        return jnp.abs((jax.vmap(motion)(x[:, 0], c) - x[:, 1:]) / (frame * model.rate_scale(x))).mean()

    return float(compiled(loss)(model, batch))


def segments(name: str, system: str, signal) -> Batch:
    """Independent states in segments as long as a signal needs, in the model's chart."""
    x, rate, c = recorded(system, models.get(name).chart)
    length = models.get(name).span(4, signal)
    x, rate = (np.float32(a[: 8 * length]).reshape(8, length, *a.shape[1:]) for a in (x, rate))
    return Batch(x, rate, np.float32(c[:8]))


@pytest.mark.parametrize("name", FIELDS)
def test_a_models_own_signal_gives_the_bits_of_the_loss_that_it_had(name):
    model, given = build(models.get(name), PENDULUM), batch(models.get(name), PENDULUM)
    assert given.x.shape[1] == {"neural_ode": 4}.get(name, 1)
    if name != "lnn":
        assert value(model, given, "own") == written_out(model, given, "frames" if name == "neural_ode" else "derivatives")
        return
    n = 2
    assert value(model, given, "own", progress=1.0) == pytest.approx(n * np.log(2 * written_out(model, given, "derivatives")), rel=1e-6)

    def likelihood(model, batch):
        x, rate, c = batch.x[:, 0], batch.rate[:, 0], batch.c
        σ = jnp.array(model.scales.v, jnp.float32)
        A = jax.vmap(model.mass_matrix)(x, c)
        force = jnp.einsum("nij,nj->ni", A, (rate[:, 1] - jax.vmap(model.derivative)(x, c)[:, 1]) / σ)
        return force_likelihood(A[: ceil(model.volume_share * len(x))], force)

    assert value(model, given, "own", progress=0.0) == pytest.approx(float(compiled(likelihood)(model, given)), rel=1e-4)


@pytest.mark.parametrize("name", FIELDS)
def test_derivatives_and_frames_are_one_loss_for_every_field(name):
    model = build(models.get(name), PENDULUM)
    for signal, length in (("derivatives", 1), ("frames", 4)):
        given = segments(name, PENDULUM, signal)
        assert given.x.shape[1] == length
        assert value(model, given, signal) == value(model, given, signal, progress=0.0) == written_out(model, given, signal)


class TrueField(VectorField):
    """The truth in the place of a model: nothing to learn."""

    physics = systems.get(PARTICLE)

    def derivative(self, x, c):
        return self.physics.field(x, c, self.chart)


class TrueCanonicalField(TrueField):
    chart = "qp"


@cache
def trajectories():
    return data.generate(systems.get(PARTICLE), replace(TINY, data_share=0.01))


@pytest.mark.parametrize("kind", [TrueField, TrueCanonicalField])
@pytest.mark.parametrize("signal", ["derivatives", "frames"])
def test_the_true_field_has_nothing_to_learn_in_any_chart(kind, signal):
    system = systems.get(PARTICLE)
    given = train.cut(trajectories().training, system, kind, 4, signal)
    given = jax.tree.map(lambda a: np.float64(a[:64]), given)
    spreads = train.scales(trajectories().training, system, kind)

    class Wrong(kind):
        def derivative(self, x, c):
            return 1.01 * super().derivative(x, c)

    losses = [value(made(system.spec, spreads, Settings(), rngs=nnx.Rngs(0)), given, signal) for made in (kind, Wrong)]
    assert losses[0] < 1e-4
    assert losses[1] > 10 * losses[0]
    if signal == "frames":  # no rate is looked at
        lost = given._replace(rate=np.nan * given.rate)
        assert value(kind(system.spec, spreads, Settings(), rngs=nnx.Rngs(0)), lost, signal) == losses[0]


def test_the_solver_takes_steps_by_how_fast_velocities_change_in_the_models_chart():
    for chart, name in (("qv", "second_order_ode"), ("qp", "hnn")):
        spreads = scales(PENDULUM, chart)
        for factor in (1.0, 5.0):
            faster = replace(spreads, rate=tuple(factor * rate for rate in spreads.rate))
            changes = factor * max(np.divide(spreads.rate, spreads.v))
            made = build(models.get(name), PENDULUM, spreads=faster)
            assert made.substeps == ceil(spreads.frame * changes / 0.35)
    assert build(models.get("neural_ode"), PENDULUM).substeps > 1


@pytest.mark.parametrize("signal", ["own", "derivatives", "frames"])
@pytest.mark.parametrize("name", models.names())
def test_every_model_trains_on_every_signal_that_it_has(name, signal):
    if signal not in models.get(name).signals:
        pytest.skip("it has not")
    kind = cases.with_width(models.get(name), 8)
    trainer = train.Trainer(kind, systems.get(PARTICLE), trajectories(), replace(TINY, models=(name,), signal=signal))
    assert trainer.training.x.shape[1] == models.get(name).span(4, signal)
    model, state, key = trainer.start(0)
    before = [np.array(leaf) for leaf in jax.tree.leaves(model)]
    compiled_chunk = jax.jit(trainer.chunk.__wrapped__, static_argnames="length", compiler_options=HASTE)
    model, _, losses = compiled_chunk(model, state, key, jnp.array(0), trainer.training, length=3)
    assert np.isfinite(losses).all()
    after = [np.array(leaf) for leaf in jax.tree.leaves(model)]
    assert any((a != b).any() for a, b in zip(before, after, strict=True))
    assert all(np.isfinite(leaf).all() for leaf in after)
    assert np.isfinite(trainer.validation_loss(model, trainer.validation))


def test_a_signal_that_a_model_or_nobody_has_is_refused_with_what_to_type(tmp_path):
    unknown = Preset()
    object.__setattr__(unknown, "signal", "rates")  # past the check of types that tests have and users have not
    with pytest.raises(UnknownName, match="unknown signal 'rates': choose from own, derivatives, frames"):
        unknown.__post_init__()
    with pytest.raises(cli.Wrong, match=r"--signal.*own.*derivatives.*frames"):
        cli.parse(cli.Options, ["--signal", "rates"], "run", cli.Options(Preset()))
    said = "signal is derivatives: mlp is trained on own or frames alone; give one of these, or leave mlp out of --models"
    with pytest.raises(Unlearnable, match=said):
        Preset(signal="derivatives")
    others = Preset(signal="derivatives", models=("lnn",))
    with pytest.raises(Unlearnable, match=said):  # of Table 1, which asks for all of its columns
        run_table1("laptop", others, 1, tmp_path / "results", tmp_path / "cache", 1, Console())
    assert list((tmp_path / "results").rglob("*.json")) == []
    assert grid.Cell(others, PARTICLE, "lnn").run_id(0) != grid.Cell(Preset(models=("lnn",)), PARTICLE, "lnn").run_id(0)
