"""A grid from end to end, tiny: what is finished stays, what is missing is done, what fails is shown."""

import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest
from rich.console import Console

import bench
from bench import grid, parameters, pool, results, sheet, tables, train
from bench.presets import PRESETS
from bench.run import Busy, run
from bench.worker import Job, environment

TINY = replace(
    PRESETS["smoke"],
    systems=("relativistic_particle",),
    models=("second_order_ode", "hnn"),
    seeds=(0, 1),
    steps=20,
    chunk=10,
    warmup=2,
    data_share=0.005,
)


def do(output, cache, preset=TINY):
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    code = run("smoke", preset, output, cache, 2, console)
    return code, console.export_text()


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, cache):
    output = tmp_path_factory.mktemp("results")
    code, text = do(output, cache)
    assert code == 0
    return output, text


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished[0], tmp_path / "copy")


def test_a_grid_leaves_a_result_for_every_run_and_a_table(finished):
    output, text = finished
    _, rows, missing = grid.read_grid(output)
    assert missing == []
    assert [(r["model"], r["seed"]) for r in rows if r["seed"] is not None] == [(m, s) for m in TINY.models for s in TINY.seeds]
    assert {r["model"] for r in rows if r["seed"] is None} == {"predict_zero", "best_constant", "truth", "truth_perturbed"}
    for file in ("results.csv", "speed.csv", "table.md", "energy.svg"):
        assert (output / file).stat().st_size > 100
    assert "second_order_ode" in text
    assert "truth" in text


def test_every_result_says_where_it_comes_from(finished):
    for result in grid.read_grid(finished[0])[1]:
        assert {"commit", "dirty", "versions", "device", "training_code", "evaluation_code"} <= set(result["provenance"])
        assert result["configuration"]["recording"]["horizon"] == 1.0
        assert len(result["configuration_hash"]) == 64


def test_metrics_are_there_by_name_and_absent_where_a_model_has_none(finished):
    rows = {(r["model"], r["seed"]): r for r in grid.read_grid(finished[0])[1]}
    hnn = rows["hnn", 0]["metrics"]
    assert {"train_loss", "validation_loss", "field_error", "force_error", "own_energy_drift", "valid_time", "parameters"} <= set(hnn)
    assert "momentum_error" not in hnn
    assert "own_energy_drift" not in rows["second_order_ode", 0]["metrics"]
    assert rows["predict_zero", None]["metrics"]["acceleration_error"] == pytest.approx(1)
    assert rows["truth", None]["metrics"]["acceleration_error"] < 1e-5
    assert 0.5 < rows["best_constant", None]["metrics"]["acceleration_error"] < 1


def test_speed_is_measured_for_one_seed_of_each_cell(finished):
    rows = grid.read_grid(finished[0])[1]
    assert [r["seed"] for r in rows if r["speed"]] == [0, 0]
    assert all(set(r["speed"]) == set(sheet.SPEEDS) and min(r["speed"].values()) > 0 for r in rows if r["speed"])


def test_haste_is_told_measures_without_a_pass_of_its_own_and_compiles_with_little_optimisation(finished, tmp_path):
    assert "measuring speed" not in finished[1]
    assert all("compiled in haste" in r["provenance"]["execution"] for r in grid.read_grid(finished[0])[1])
    careful = replace(TINY, haste=False)
    assert grid.Cell(careful, "wave", "lnn").run_id(0) != grid.Cell(TINY, "wave", "lnn").run_id(0)
    flags = [environment(tmp_path, haste)["XLA_FLAGS"] for haste in (False, True)]
    assert ["optimization_level=0" in f for f in flags] == [False, True]


def test_a_second_run_trains_nothing(copy, cache):
    before = {p: p.stat().st_mtime_ns for p in copy.rglob("result.json")}
    code, text = do(copy, cache)
    assert code == 0
    assert "to do" not in text
    assert {p: p.stat().st_mtime_ns for p in copy.rglob("result.json")} == before


def test_tables_are_derived_byte_for_byte(copy):
    files = ("results.csv", "speed.csv", "table.md", "energy.svg")
    before = [(copy / f).read_bytes() for f in files]
    for f in files:
        (copy / f).unlink()
    tables.write(copy)
    assert [(copy / f).read_bytes() for f in files] == before


def test_an_interrupted_grid_does_only_what_is_missing_and_gives_the_same_bits(copy, cache):
    gone = next(p.parent for p in copy.rglob("result.json") if "hnn-s1" in str(p))
    lost = {name: (gone / name).read_bytes() for name in ("curves.npz",)}
    metrics = results.read(gone)["metrics"]
    shutil.rmtree(gone)
    others = {p: p.stat().st_mtime_ns for p in copy.rglob("result.json")}
    code, text = do(copy, cache)
    assert code == 0
    assert "1 to do" in text
    assert results.read(gone)["metrics"] == metrics
    assert {name: (gone / name).read_bytes() for name in lost} == lost
    assert {p: p.stat().st_mtime_ns for p in others} == others


def test_changed_evaluation_code_evaluates_again_without_training(copy, cache):
    where = next(p.parent for p in copy.rglob("result.json") if "hnn-s0" in str(p))
    result = results.read(where)
    true = dict(result["metrics"])
    result["metrics"]["field_error"] = 123.0
    result["provenance"]["evaluation_code"] = "older"
    results.write(where, result)
    stamp = max(p.stat().st_mtime_ns for p in (where / "parameters").rglob("*"))
    assert do(copy, cache)[0] == 0
    assert results.read(where)["metrics"] == true
    assert max(p.stat().st_mtime_ns for p in (where / "parameters").rglob("*")) == stamp


def test_a_trained_model_is_loaded_in_three_lines(finished):
    model, system = bench.load(finished[0], "relativistic_particle", "hnn", seed=1)
    x, c = system.sample_initial(jax.random.key(0))
    rate = model.derivative(system.to_chart(x, c, "qp"), c)
    assert rate.shape == (2, 1)
    assert np.isfinite(rate).all()
    with pytest.raises(results.ResultsError, match=r"there are: .*hnn 1"):
        bench.load(finished[0], "relativistic_particle", "hnn", seed=9)


def test_saved_parameters_come_back_bit_for_bit(finished, tmp_path):
    model, _ = bench.load(finished[0], "relativistic_particle", "hnn", seed=0)
    parameters.save(tmp_path / "again", model)
    again = parameters.restore(tmp_path / "again", model)
    for a, b in zip(jax.tree.leaves(model), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)
    other, _ = bench.load(finished[0], "relativistic_particle", "second_order_ode", seed=0)
    with pytest.raises(ValueError, match="not those of this SecondOrderODE"):
        parameters.restore(tmp_path / "again", train_like(other, depth=2))


def train_like(model, depth):
    settings = replace(type(model).settings, shape=replace(type(model).settings.shape, depth=depth))
    return train.initial(type(model), model.spec, settings, model.scales, 0)


def test_a_training_whose_loss_turns_nan_ends_as_diverged_and_the_table_shows_it(tmp_path, cache):
    # a step of 1e30 overflows single precision at once
    preset = replace(TINY, models=("second_order_ode",), seeds=(0,), learning_rate=1e30, optimizer="adam", warmup=0)
    code, _ = do(tmp_path, cache, preset)
    assert code == 0
    (result,) = [r for r in grid.read_grid(tmp_path)[1] if r["seed"] == 0]
    assert result["status"] == "diverged"
    assert 0 < result["diverged_at_step"] <= 10
    assert f"training diverged at step {result['diverged_at_step']}" in (tmp_path / "table.md").read_text()


class Bomb:
    """Ends the process that unpickles it."""

    def __init__(self, cell):
        self.cell = cell

    def __getattr__(self, name):
        return getattr(object.__getattribute__(self, "cell"), name)

    def __reduce__(self):
        return __import__("os")._exit, (3,)


def test_a_worker_that_dies_costs_its_run_alone(tmp_path, cache):
    cell = grid.Cell(TINY, "relativistic_particle", "predict_zero")
    jobs = [Job("train", Bomb(cell), (None,), tmp_path, cache), Job("train", cell, (None,), tmp_path, cache)]
    told = []
    pool.run(jobs, 1, tmp_path / "logs", lambda job, event: told.append((job.cell is cell, event.what, event.status)))
    assert (True, "done", "finished") in told
    failed = [status for whole, what, status in told if not whole and what == "done"]
    assert len(failed) == 1
    assert "died with exit code 3" in failed[0]


def test_a_run_that_raises_is_told_as_failed_and_the_rest_goes_on(tmp_path, cache):
    broken = grid.Cell(TINY, "relativistic_particle", "no_such_model")
    good = grid.Cell(TINY, "relativistic_particle", "truth")
    told = []
    jobs = [Job("train", broken, (0, 1), tmp_path, cache), Job("train", good, (None,), tmp_path, cache)]
    pool.run(jobs, 2, tmp_path / "logs", lambda job, event: told.append((job.cell.model, event.seed, event.what, event.status)))
    assert ("truth", None, "done", "finished") in told
    failures = {seed: status for model, seed, what, status in told if model == "no_such_model" and what == "done"}
    assert set(failures) == {0, 1}
    assert all("unknown model 'no_such_model'" in status for status in failures.values())


def test_a_failed_run_is_a_hole_in_the_table_and_tried_again(copy, cache):
    where = next(p.parent for p in copy.rglob("result.json") if "hnn-s0" in str(p))
    result = results.read(where)
    shutil.rmtree(where / "parameters")
    results.write(where, result | {"status": "failed", "why": "failed: its worker died", "metrics": {}, "speed": {}})
    tables.write(copy)
    assert "hnn (1 of 2 runs)" in (copy / "table.md").read_text()
    assert do(copy, cache)[0] == 0
    assert "hnn (1 of 2 runs)" not in (copy / "table.md").read_text()


def test_two_grids_in_one_folder_are_refused_by_name(copy, cache):
    with pool_lock(copy), pytest.raises(Busy, match=str(copy)):
        do(copy, cache)


def pool_lock(output):
    from filelock import FileLock

    return FileLock(output / ".lock")


def test_results_of_two_versions_of_the_code_are_not_mixed(copy):
    where = next(p.parent for p in copy.rglob("result.json") if "hnn-s0" in str(p))
    result = results.read(where)
    result["provenance"]["training_code"] = "other"
    results.write(where, result)
    with pytest.raises(results.ResultsError, match="different versions of the code"):
        tables.write(copy)


def test_rows_from_other_code_than_the_checkouts_are_named(copy):
    for path in copy.rglob("result.json"):
        if "hnn" in str(path):
            result = results.read(path.parent)
            result["provenance"]["evaluation_code"] = "other"
            results.write(path.parent, result)
    tables.write(copy)
    assert "Made by other code than this checkout's: relativistic_particle x hnn." in (copy / "table.md").read_text()
