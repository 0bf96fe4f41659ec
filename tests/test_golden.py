"""Numbers don't change unnoticed: a short training and evaluation give what a committed file says, and faults of one per cent are seen.

`pytest -m deep` tries all cells and all faults.
"""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bench
from bench import checkpoints, evaluate, golden, metrics, train
from models import _networks
from systems import _integrators, _mechanics

ONE_PER_CENT = 1.01
DEEP = pytest.mark.deep


def differences(cell, now=None):
    return golden.differences(golden.read(cell), now or next(iter(golden.measured(cell))))


SHORT = (*golden.CELLS, golden.DATA)


@pytest.mark.parametrize("cell", SHORT)
def test_the_numbers_of_a_short_training_and_its_evaluation_are_what_they_were(cell):
    assert differences(cell) == []


@DEEP
@pytest.mark.parametrize("cell", [cell for cell in golden.all_cells() if cell not in SHORT])
def test_the_numbers_of_every_other_cell_are_what_they_were(cell):
    assert differences(cell) == []


# faults in shared code ------------------------------------------------------------------------------------------------


def schedule(patch, change):
    usual = optax.warmup_cosine_decay_schedule
    patch.setattr(optax, "warmup_cosine_decay_schedule", lambda *arguments: change(usual(*arguments)))


def learning_rate(patch):
    schedule(patch, lambda rate: lambda step: ONE_PER_CENT * rate(step))


def decay(patch):
    """The cosine, and not the warm-up, is ahead by one per cent of the training."""
    schedule(patch, lambda rate: lambda step: jnp.where(step > golden.PRESET.warmup, rate(step + 0.01 * golden.PRESET.steps), rate(step)))


def warm_up(patch):
    schedule(patch, lambda rate: lambda step: jnp.where(step < golden.PRESET.warmup, ONE_PER_CENT, 1.0) * rate(step))


def batches(patch):
    """The last per cent of the data is never drawn."""
    usual = jax.random.randint
    patch.setattr(jax.random, "randint", lambda key, shape, least, beyond: usual(key, shape, least, int(beyond / ONE_PER_CENT)))


def scales(patch):
    usual = train.scales

    def off(*arguments, **options):
        made = usual(*arguments, **options)
        return replace(made, rate=tuple(ONE_PER_CENT * rate for rate in made.rate))

    patch.setattr(train, "scales", off)


def activation(patch):
    usual = _networks.softplus
    patch.setitem(_networks.ACTIVATIONS, "softplus", lambda x: usual(ONE_PER_CENT * x))


def missing_force(patch):
    """One per cent of the generalised force has the other sign."""
    usual = _mechanics.missing_force

    def off(lagrangian, q, v, a, c, lattice=False):
        return usual(lagrangian, q, v, a, c, lattice) + 0.02 * jax.grad(lagrangian)(q, v, c)

    patch.setattr(_mechanics, "missing_force", off)


def rollout_step(patch):
    usual = _integrators.Adams.step
    patch.setattr(_integrators.Adams, "step", lambda self, field, at, dt: usual(self, field, at, ONE_PER_CENT * dt))


def energy_scale(patch):
    usual = metrics.energy_error
    patch.setattr(
        metrics, "energy_error", lambda energy, initial, scale, diverged: usual(energy, initial, ONE_PER_CENT * np.asarray(scale), diverged)
    )


def angle_wrap(patch):
    """A turn is one per cent more than 2π."""
    usual = evaluate.in_single

    def off(function, x, c, spec):
        turns = jnp.round(x[0] / (2 * jnp.pi)) * jnp.array(spec.is_angle())
        return usual(function, x.at[0].add(-0.02 * jnp.pi * turns), c, spec)

    patch.setattr(evaluate, "in_single", off)


def metric_weights(patch):
    """In the error of the field, rates of velocities weigh one per cent more than rates of coordinates."""
    usual, weights = metrics._mean_ratio, np.array([[1.0], [ONE_PER_CENT]])

    def off(error, size, axes):
        weigh = weights if error.ndim == 3 else 1.0
        return usual(weigh * error, weigh * size, axes)

    patch.setattr(metrics, "_mean_ratio", off)


PARTICLE, PENDULUM = "hnn on relativistic_particle", "lnn on double_pendulum"
FAULTS = {  # and the cell that shows it
    learning_rate: PARTICLE,
    decay: PARTICLE,
    warm_up: PARTICLE,
    batches: PARTICLE,
    scales: PARTICLE,
    activation: PARTICLE,
    missing_force: PENDULUM,
    rollout_step: PARTICLE,
    energy_scale: PARTICLE,
    angle_wrap: PENDULUM,
    metric_weights: PARTICLE,
}
AT_ONCE = (learning_rate, energy_scale)  # the others are tried with `-m deep`
EVALUATED = {rollout_step: "evaluation", energy_scale: "evaluation", angle_wrap: "evaluation", metric_weights: "evaluation"}


@pytest.mark.parametrize("fault", [f if f in AT_ONCE else pytest.param(f, marks=DEEP) for f in FAULTS], ids=lambda fault: fault.__name__)
def test_a_fault_of_one_per_cent_in_shared_code_is_seen_and_it_is_said_what_to_do(fault, monkeypatch):
    with monkeypatch.context() as patch:
        if EVALUATED.get(fault):  # the true motion is made without it
            golden.seen(FAULTS[fault].rpartition(" ")[2])
        fault(patch)
        (said,) = differences(FAULTS[fault])
    part = EVALUATED.get(fault, "training")
    number = {"training": f"TRAINING in bench/train.py to {train.TRAINING + 1}"}.get(
        part, f"EVALUATION in bench/evaluate.py to {evaluate.EVALUATION + 1}"
    )
    assert said.startswith(f"numbers of the {part} changed (")
    assert said.endswith(f"where it is meant, raise {number} and write the golden numbers anew with python -m bench accept --golden")


# the comparison -------------------------------------------------------------------------------------------------------

KEPT = {
    "training": train.TRAINING,
    "evaluation": evaluate.EVALUATION,
    "parameters": "d" * 64,
    "numbers": {"training": {"losses": [1.0, 2.0]}, "evaluation": {"error": [0.5], "gone": [float("inf")]}},
    "spread": {"training": {"losses": [1e-4, 2e-4]}, "evaluation": {"error": [0.0], "gone": [0.0]}},
}


def found(losses=(1.0, 2.0), **evaluation):
    return {"parameters": "d" * 64, "training": {"losses": list(losses)}, "evaluation": {"error": [0.5], "gone": [float("inf")], **evaluation}}


def test_numbers_may_be_off_by_ten_times_their_spread_or_a_hundred_thousandth():
    assert golden.differences(KEPT, found()) == []
    assert golden.differences(KEPT, found(losses=(1.0, 2.0019))) == []
    assert "losses: 2.0021 instead of 2 ± 0.002" in golden.differences(KEPT, found(losses=(1.0, 2.0021)))[0]
    assert golden.differences(KEPT, found(error=[0.500004])) == []
    assert "error: 0.500006 instead of 0.5" in golden.differences(KEPT, found(error=[0.500006]))[0]


@pytest.mark.parametrize("strange", [{"error": [float("nan")]}, {"gone": [1.0]}, {"error": []}, {"more": [1.0]}])
def test_numbers_that_are_gone_or_new_or_not_finite_are_seen(strange):
    (said,) = golden.differences(KEPT, found(**strange))
    assert next(iter(strange)) in said
    assert "raise EVALUATION in bench/evaluate.py" in said


def test_a_raised_number_asks_for_new_golden_numbers(monkeypatch):
    monkeypatch.setattr(train, "TRAINING", train.TRAINING + 1)
    (said,) = golden.differences(KEPT, found(losses=(9.0, 9.0)))
    assert said.startswith(f"TRAINING in bench/train.py is {train.TRAINING}, the golden numbers are of {train.TRAINING - 1}: write ")
    assert said.endswith("anew with python -m bench accept --golden")


def test_what_is_written_is_the_first_of_what_was_found_and_the_largest_distance_from_it(tmp_path, monkeypatch):
    monkeypatch.setattr(golden, "FOLDER", tmp_path)
    with pytest.raises(FileNotFoundError, match="write them with python -m bench accept --golden"):
        golden.read("lnn on wave")
    golden.write("lnn on wave", [found((1.0, 2.0)), found((1.25, 2.0)), found((0.5, 2.0))])
    kept = golden.read("lnn on wave")
    assert kept["numbers"]["training"] == {"losses": [1.0, 2.0]}
    assert kept["spread"]["training"] == {"losses": [0.5, 0.0]}
    assert (kept["training"], kept["evaluation"]) == (train.TRAINING, evaluate.EVALUATION)
    assert json.loads((tmp_path / "lnn_on_wave.json").read_text())


def test_what_is_evaluated_is_what_the_reference_ships_and_other_parameters_ask_for_new_numbers():
    shipped, _ = bench.load(golden.SHIPPED, "relativistic_particle", "hnn")
    now = next(iter(golden.measured(PARTICLE)))
    assert now["parameters"] == golden.read(PARTICLE)["parameters"] == checkpoints.digest(shipped)
    (said,) = golden.differences(golden.read(PARTICLE), {**now, "parameters": "0" * 64})
    assert said.startswith("the parameters in results/reference/laptop are not those that the golden numbers are of: write the golden numbers anew")


def test_all_cells_are_every_model_and_every_system():
    assert {word for cell in golden.all_cells() for word in cell.split(" on ")} >= {"lnn", "mlp", "wave", "planar_warped", "magnetic_charge"}
    assert set(SHORT) <= set(golden.all_cells())
