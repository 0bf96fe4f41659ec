"""No option is dead: every field of every configuration changes something."""

from dataclasses import fields, is_dataclass, replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from specimens import compiled

import models
import systems
from bench import cached, data, grid, train
from bench.evaluate import Evaluator
from bench.floors import PerturbedTruth
from bench.presets import PRESETS, Preset
from models import Batch, Scales, Shape
from systems import Recording
from systems._integrators import Adams
from systems._rows import UnknownName

TINY = replace(PRESETS["smoke"], steps=8, chunk=4, optimizer="adam", warmup=2, data_share=0.005, horizon_share=0.1)
OTHER = {
    "steps": 12,
    "batch": 64,
    "segment": 3,
    "signal": "frames",
    "chunk": 2,
    "optimizer": "soap",
    "schedule": "trapezoidal",
    "warmup": 3,
    "learning_rate": 0.5,
    "constants": "paper",
    "hyperparameters": "paper",
    "sampling": "states",
    "data_seed": 1,
    "data_share": 0.01,
    "horizon_share": 0.2,
}
GUARDS = {"checkpoint_seconds": 0.0, "time_limit": None, "memory_limit": 1.0}


@cache
def losses(preset: Preset) -> bytes:
    """Of a short training, chunk by chunk."""
    system, dataset = made(preset)
    # only a model that learns from rollouts sees whole segments
    model = models.get("second_order_ode" if preset.segment == TINY.segment else "neural_ode")
    (trained,) = train.Trainer(model, system, dataset, preset)((0,))
    return trained.history["train_loss"].tobytes()


def data_of(preset: Preset) -> tuple:
    """What is trained on, and the length of the evaluation."""
    dataset = made(preset)[1]
    return dataset.training.x.tobytes(), dataset.evaluation.x.shape


def made(preset: Preset):
    """(system, data set)."""
    return _made(preset.constants, tuple(getattr(preset, name) for name in data.DATA_FIELDS))


@cache
def _made(constants, values):
    system = systems.get("relativistic_particle", constants)
    return system, data.generate(system, replace(TINY, **dict(zip(data.DATA_FIELDS, values, strict=True))))


OF_DATA = {"constants", *data.DATA_FIELDS} - {"segment"}  # fields that every data set depends on


@pytest.mark.parametrize("field", [name for name in OTHER if name in OF_DATA])
def test_every_field_that_data_depend_on_changes_them(field):
    assert data_of(replace(TINY, **{field: OTHER[field]})) != data_of(TINY)


@pytest.mark.parametrize("field", [name for name in OTHER if name not in {*OF_DATA, "segment"}])
def test_every_other_field_of_a_preset_changes_what_is_learnt(field):
    assert losses(replace(TINY, **{field: OTHER[field]})) != losses(TINY)


def test_the_length_of_a_segment_changes_what_a_model_trained_on_rollouts_learns():
    assert losses(replace(TINY, segment=3)) != losses(replace(TINY, segment=5))


def test_no_field_of_a_preset_is_forgotten_above():
    assert set(OTHER) == set(TINY.of_a_run())
    assert {f.name for f in fields(Preset)} == set(OTHER) | {"systems", "models", "seeds", "haste"} | set(GUARDS)


def test_what_guards_a_run_changes_neither_its_name_nor_its_data():
    """That each is read: tests/test_resuming.py, where it decides how many are written, and tests/test_pool.py, where runs go beyond limits."""
    cell = grid.Cell(TINY, "wave", "lnn")
    system = cell.get_system()
    for name, value in GUARDS.items():
        assert getattr(TINY, name) != value
        other = replace(TINY, **{name: value})
        assert grid.Cell(other, "wave", "lnn").run_id(0) == cell.run_id(0), name
        assert cached.key("wave", system, other) == cached.key("wave", system, TINY), name


def test_the_lists_of_a_preset_span_the_grid():
    preset = replace(TINY, systems=("wave",), models=("mlp", "lnn"), seeds=(3, 5))
    runs = [(c.system, c.model, seed) for c in grid.cells(preset) if not c.is_floor for seed in c.seeds]
    assert runs == [("wave", "mlp", 3), ("wave", "mlp", 5), ("wave", "lnn", 3), ("wave", "lnn", 5)]


SCALES = Scales(q=(1.0, 2.0), v=(1.5, 2.5), rate=(3.0, 4.0), c=(), frame=0.1)
SPEC = systems.get("double_pendulum").spec
BATCH = Batch(*(jax.random.normal(jax.random.key(i), (2, 3, 2, 2), jnp.float32) for i in range(2)), jnp.zeros((2, 0), jnp.float32))


def loss(model, settings, scales=SCALES, progress=0.8, gain=1.0):
    made = jax.tree.map(lambda w: gain * w, train.initial(model, SPEC, settings, scales, 0))
    return float(compiled(lambda model, batch, progress: model.loss(batch, progress))(made, BATCH, jnp.float32(progress)))


@pytest.mark.parametrize(("field", "value"), [("width", 8), ("depth", 2), ("activation", "tanh"), ("init", "lnn_paper")])
def test_every_field_of_a_networks_shape_changes_the_loss(field, value):
    model = models.get("second_order_ode")
    shape = Shape(width=16)
    settings = replace(model.settings, shape=shape)
    assert loss(model, settings) != loss(model, replace(settings, shape=replace(shape, **{field: value})))


def test_the_width_on_a_ring_is_another_field():
    spec, model = systems.get("wave").spec, models.get("second_order_ode")
    scales = Scales(q=(1.0,), v=(1.0,), rate=(1.0,), c=(), frame=0.1)
    sizes = [
        train.parameters(train.initial(model, spec, replace(model.settings, shape=shape), scales, 0))
        for shape in (Shape(), Shape(width=8), Shape(ring_width=8))
    ]
    assert sizes[0] == sizes[1] != sizes[2]
    assert {f.name for f in fields(Shape)} == {"width", "ring_width", "depth", "activation", "init"}


def test_every_other_setting_of_a_model_changes_the_loss():
    node, lnn = models.get("neural_ode"), models.get("lnn")
    small = Shape(width=16)
    settings = replace(node.settings, shape=small)
    # weights large enough for a field that two steps follow better than one
    assert loss(node, settings, gain=3.0) != loss(node, replace(settings, longest_step=0.1), gain=3.0)
    usual = replace(lnn.settings, shape=small)
    assert loss(lnn, usual) != loss(lnn, replace(usual, positive_start=False))
    assert loss(lnn, usual) != loss(lnn, replace(usual, switch=0.9))
    assert loss(lnn, usual, progress=0.3) != loss(lnn, replace(usual, first="forward_error"), progress=0.3)
    assert loss(lnn, usual) != loss(lnn, replace(usual, last="forward_error"))
    assert loss(lnn, usual, progress=0.3) != loss(lnn, replace(usual, volume_share=0.5), progress=0.3)
    for model in (lnn, models.get("hnn"), models.get("hnn_naive")):
        usual = replace(model.settings, shape=small)
        assert loss(model, usual) != loss(model, replace(usual, products=0))
        assert loss(model, usual) != loss(model, replace(usual, head=None))
        assert loss(model, usual) != loss(model, replace(usual, head=Shape(width=8)))
    known = {"shape", "learning_rate", "muon_rate", "adam_rate", "normalise", "longest_step", "head", "products"}
    known |= {"positive_start", "first", "last", "switch", "volume_share"}
    assert {f.name for name in models.names() for f in fields(models.get(name).settings)} == known


@pytest.mark.parametrize("name", ["mlp", "second_order_ode", "hnn", "lnn", "delan"])
def test_a_models_learning_rate_is_the_one_it_trains_with(name):
    system, dataset = made(TINY)
    model = models.get(name)
    assert train.Trainer(model, system, dataset, replace(TINY, learning_rate=0.5)).learning_rate == 0.5
    rates = {"soap": model.settings.learning_rate, "muon": model.settings.muon_rate, "adam": model.settings.adam_rate}
    for optimizer, rate in rates.items():
        assert train.Trainer(model, system, dataset, replace(TINY, optimizer=optimizer)).learning_rate == rate


@pytest.mark.parametrize(("field", "value"), [("q", (9.0, 2.0)), ("v", (9.0, 2.5)), ("rate", (9.0, 4.0)), ("frame", 0.2)])
def test_every_scale_changes_the_loss(field, value):
    model = models.get("mlp")
    settings = replace(model.settings, shape=Shape(width=16))
    assert loss(model, settings) != loss(model, settings, replace(SCALES, **{field: value}))


def changed(value):
    """Another value of the same kind: of a system or a warp, one with another constant."""
    if is_dataclass(value) and not isinstance(value, type):
        name = fields(value)[0].name
        return replace(value, **{name: changed(getattr(value, name))})
    return "paper" if isinstance(value, str) else value + 1 if isinstance(value, int) else 2 * value


@pytest.mark.parametrize("name", systems.names())
def test_every_constant_of_a_system_changes_something(name):
    system = systems.get(name)
    x, c = system.sample_initial(jax.random.key(3))
    usual = np.asarray(system.acceleration(x, c)), system.sample_evaluation(jax.random.key(0), jnp.array(1))[0].shape, x.shape
    for f in fields(system):
        other = replace(system, **{f.name: changed(getattr(system, f.name))})
        y, _ = other.sample_initial(jax.random.key(3))
        now = np.asarray(other.acceleration(x, c)), other.sample_evaluation(jax.random.key(0), jnp.array(1))[0].shape, y.shape
        assert not all(np.array_equal(a, b) for a, b in zip(usual, now, strict=True)), f.name


def test_what_is_not_normalised_is_taken_as_it_is():
    system, dataset = made(TINY)
    usual, other = (
        train.Trainer(models.get("lnn"), system, dataset, replace(TINY, models=("lnn",), hyperparameters=h)).scales
        for h in ("normalised", "as_published")
    )
    assert (other.q, other.v, other.rate, other.c) == ((1.0,), (1.0,), (1.0,), (1.0,))
    assert 1.0 not in (*usual.q, *usual.v, *usual.rate, *usual.c)


def test_hyperparameters_that_a_model_does_not_have_are_refused_by_name():
    with pytest.raises(UnknownName, match=r"hyperparameters.*as_published"):
        replace(TINY, models=("lnn",), hyperparameters="published")
    with pytest.raises(UnknownName, match="default, paper"):
        replace(TINY, models=("lnn", "mlp"), hyperparameters="as_published")


def test_every_field_of_a_recording_changes_data_or_evaluation():
    class Particle(type(systems.get("relativistic_particle"))):
        recording = Recording(trajectories=400, duration=1.0, frame=0.02, starts=4, horizon=1.0, evaluation_frame=0.02, substeps=2, window=0.5)

    def system(**changes):
        return type("Other", (Particle,), {"recording": replace(Particle.recording, **changes)})()

    def recorded(**changes):
        return data.generate(system(**changes), replace(TINY, data_share=0.1, horizon_share=1.0))

    def shown(dataset):
        return dataset.training.x.shape, dataset.training.x.sum(), dataset.evaluation.x.shape

    def error(**changes):
        physics = system(**changes)
        return Evaluator(physics, usual).rollout_metrics(PerturbedTruth(physics, usual))[0]["rollout_error"]

    of_data = {"trajectories": 500, "duration": 0.8, "frame": 0.01, "starts": 5, "horizon": 0.8, "evaluation_frame": 0.04}
    of_evaluation = {"substeps": 1, "window": 0.2, "integrator": Adams(3, evaluations=1)}
    assert {*of_data, *of_evaluation} == {f.name for f in fields(Recording)}
    usual = recorded()
    usual_error = error()
    for name, value in of_data.items():
        assert shown(recorded(**{name: value})) != shown(usual), name
    for name, value in of_evaluation.items():
        assert error(**{name: value}) != usual_error, name
