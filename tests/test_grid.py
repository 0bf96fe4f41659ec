"""A grid from end to end, tiny: what is finished stays, what is missing is done, what fails is shown."""

import io
import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest
from rich.console import Console
from small_results import flip

import bench
from bench import cli, derived, grid, results, sheet, tables
from bench.locks import Busy, held
from bench.presets import PRESETS
from bench.run import run
from bench.worker import environment

TINY = replace(
    PRESETS["smoke"],
    systems=("relativistic_particle",),
    models=("second_order_ode", "hnn"),
    seeds=(0, 1),
    steps=20,
    chunk=10,
    optimizer="adam",
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


def run_folder(output, name):
    """The folder of a run, by a part of its name."""
    (found,) = output.glob(f"runs/*-{name}-*")
    return found


def comparable(where):
    """What must be the same when a run is made again: all but the time at which it was written, and what it took."""
    result = results.read(where)
    numbers = {name: result[name] for name in ("status", "metrics", "parameters", "configuration_hash", "curves", "diverged_at_step")}
    return numbers, (where / "curves.npz").read_bytes()


def newest(folder):
    return max(p.stat().st_mtime_ns for p in folder.rglob("*"))


def test_a_grid_leaves_a_result_for_every_run_and_a_table(finished):
    output, text = finished
    _, rows, holes = grid.read_grid(output)
    assert holes == {}
    assert [(r["model"], r["seed"]) for r in rows if r["seed"] is not None] == [(m, s) for m in TINY.models for s in TINY.seeds]
    assert {r["model"] for r in rows if r["seed"] is None} == {"predict_zero", "best_constant", "truth", "truth_perturbed"}
    for file in ("runs.csv", "results.csv", "speed.csv", "table.md", "figures/energy.svg", "report.html"):
        assert (output / file).stat().st_size > 100
    assert "second_order_ode" in text
    assert "truth" in text


def test_every_result_says_where_it_comes_from(finished):
    for result in grid.read_grid(finished[0])[1]:
        assert (result["provenance"]["attempt"], result["provenance"]["resumed_at"], result["provenance"]["clock_moved_seconds"]) == (1, [], None)
        assert {"commit", "dirty", "versions", "device", "training", "evaluation", "rows", "parts"} <= set(result["provenance"])
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
    timed = {(r["model"], r["seed"]): r["speed"] for r in grid.read_grid(finished[0])[1] if r["speed"]}
    assert {key: values for key, values in timed.items() if key[1] == 0 and set(values) != set(sheet.SPEEDS)} == {}
    assert [seed for _, seed in timed] == [None, 0, 0]
    assert set(timed["truth", None]) == {"rollout_states_per_second", *(f"rollout_states_per_second_in_{n}" for n in (4, 2, 1))}
    assert all(min(values.values()) > 0 for values in timed.values())


def test_haste_is_told_measures_without_a_pass_of_its_own_and_compiles_with_little_optimisation(finished, tmp_path, monkeypatch):
    assert "measuring speed" not in finished[1]
    assert all("compiled in haste" in r["provenance"]["execution"] for r in grid.read_grid(finished[0])[1])
    careful = replace(TINY, haste=False)
    assert grid.Cell(careful, "wave", "lnn").run_id(0) != grid.Cell(TINY, "wave", "lnn").run_id(0)
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    flags = [environment(tmp_path, haste)["XLA_FLAGS"] for haste in (False, True)]
    assert ["optimization_level=0" in f for f in flags] == [False, True]


def test_a_second_run_trains_nothing(copy, cache):
    before = {p: p.stat().st_mtime_ns for p in copy.rglob("result.json")}
    code, text = do(copy, cache)
    assert code == 0
    assert "to do" not in text
    assert {p: p.stat().st_mtime_ns for p in copy.rglob("result.json")} == before


def test_tables_are_derived_byte_for_byte(copy):
    files = ("runs.csv", "results.csv", "speed.csv", "table.md", "figures/energy.svg", "report.html")
    before = [(copy / f).read_bytes() for f in files]
    for f in files:
        (copy / f).unlink()
    derived.write(copy)
    assert [(copy / f).read_bytes() for f in files] == before


def test_an_interrupted_grid_does_only_what_is_missing_and_gives_the_same_bits(copy, cache):
    gone = run_folder(copy, "hnn-s1")
    lost = comparable(gone)
    shutil.rmtree(gone)
    others = {p: p.stat().st_mtime_ns for p in copy.rglob("result.json")}
    code, text = do(copy, cache)
    assert code == 0
    assert "1 to do" in text
    assert comparable(gone) == lost
    assert {p: p.stat().st_mtime_ns for p in others} == others


def test_changed_evaluation_code_evaluates_again_without_training(copy, cache):
    where = run_folder(copy, "hnn-s0")
    result = results.read(where)
    true = dict(result["metrics"])
    result["metrics"]["field_error"] = 123.0
    result["provenance"]["evaluation"] = 0
    results.write(where, result)
    stamp = newest(where / "parameters")
    assert do(copy, cache)[0] == 0
    assert results.read(where)["metrics"] == true
    assert newest(where / "parameters") == stamp


def test_a_trained_model_is_loaded_in_three_lines(finished):
    model, system = bench.load(finished[0], "relativistic_particle", "hnn", seed=1)
    x, c = system.sample_initial(jax.random.key(0))
    rate = model.derivative(system.to_chart(x, c, "qp"), c)
    assert rate.shape == (2, 1)
    assert np.isfinite(rate).all()
    with pytest.raises(results.ResultsError, match=r"there are: .*hnn 1"):
        bench.load(finished[0], "relativistic_particle", "hnn", seed=9)


def test_a_model_whose_parameters_are_damaged_or_anothers_is_not_loaded(copy):
    where, other = run_folder(copy, "hnn-s1"), run_folder(copy, "hnn-s0")
    array = max((p for p in (where / "parameters").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    flip(array)
    with pytest.raises(results.ResultsError, match=r"is damaged.*delete .* and run the benchmark again"):
        bench.load(copy, "relativistic_particle", "hnn", seed=1)
    shutil.rmtree(where / "parameters")
    with pytest.raises(FileNotFoundError, match="no parameters in"):
        bench.load(copy, "relativistic_particle", "hnn", seed=1)
    shutil.copytree(other / "parameters", where / "parameters")
    with pytest.raises(results.ResultsError, match=r"it belongs to relativistic_particle-hnn-s0.*, not to relativistic_particle-hnn-s1"):
        bench.load(copy, "relativistic_particle", "hnn", seed=1)
    results.write(other, {**results.read(other), "parameters": "0" * 64})
    with pytest.raises(results.ResultsError, match="are not those of its result"):
        bench.load(copy, "relativistic_particle", "hnn", seed=0)


def test_a_training_whose_loss_turns_nan_ends_as_diverged_and_the_table_shows_it(tmp_path, cache):
    # a step of 1e30 overflows single precision at once
    preset = replace(TINY, models=("second_order_ode",), seeds=(0,), learning_rate=1e30, optimizer="adam", warmup=0)
    code, _ = do(tmp_path, cache, preset)
    assert code == 0
    (result,) = [r for r in grid.read_grid(tmp_path)[1] if r["seed"] == 0]
    assert result["status"] == "diverged"
    assert 0 < result["diverged_at_step"] <= 10
    assert "second_order_ode (0 of 1 runs; 1 diverged)" in (tmp_path / "table.md").read_text()
    assert f"training diverged at step {result['diverged_at_step']}" in (tmp_path / "table.md").read_text()


@pytest.mark.parametrize("damage", ["flipped", "of another run", "a folder"])
def test_a_damaged_result_is_said_and_set_aside_and_made_again_without_training(copy, cache, damage):
    where = run_folder(copy, "hnn-s1")
    path, whole = where / "result.json", comparable(where)
    trained = newest(where / "parameters")
    if damage == "flipped":
        flip(path, 300)
    elif damage == "of another run":
        shutil.copyfile(run_folder(copy, "hnn-s0") / "result.json", path)
        shutil.copyfile(run_folder(copy, "hnn-s0") / "curves.npz", where / "curves.npz")
    else:
        path.unlink()
        path.mkdir()
    bad = None if path.is_dir() else path.read_bytes()
    code, text = do(copy, cache)
    assert code == 0
    assert str(path) in text
    assert "`bench run` makes it again (kept as result.json.damaged)" in text
    assert "1 to do" in text
    assert comparable(where) == whole
    assert newest(where / "parameters") == trained
    aside = where / "result.json.damaged"
    assert aside.is_dir() if bad is None else aside.read_bytes() == bad


def test_damaged_parameters_are_trained_again_to_the_same_bits_and_it_is_said(copy, cache):
    where = run_folder(copy, "hnn-s1")
    whole, trained = comparable(where), newest(where / "parameters")
    (where / "result.json").unlink()
    flip(max((p for p in (where / "parameters").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size))
    code, text = do(copy, cache)
    assert code == 0
    assert "hnn (adam) seed 1" in text
    assert f"{where / 'parameters'}" in text
    assert "is damaged: its checksum does not fit: the run is trained again" in text
    assert comparable(where) == whole
    assert newest(where / "parameters") > trained


def test_a_damaged_grid_is_set_aside_and_nothing_is_trained(copy, cache):
    whole = (copy / "grid.json").read_bytes()
    flip(copy / "grid.json", 200)
    damaged = (copy / "grid.json").read_bytes()
    before = {p: p.stat().st_mtime_ns for p in copy.rglob("result.json")}
    with pytest.raises(results.DamagedResult, match=r"grid\.json"):
        grid.read_grid(copy)
    code, text = do(copy, cache)
    assert code == 0
    assert "to do" not in text
    assert (copy / "grid.json").read_bytes() == whole
    assert (copy / "grid.json.damaged").read_bytes() == damaged
    assert {p: p.stat().st_mtime_ns for p in copy.rglob("result.json")} == before


def test_a_failed_run_is_a_hole_in_the_table_and_tried_again(copy, cache):
    where = run_folder(copy, "hnn-s0")
    result = results.read(where)
    shutil.rmtree(where / "parameters")
    results.write(where, result | {"status": "failed", "why": "its worker died", "metrics": {}, "speed": {}})
    assert cli.main(["table", str(copy)]) == 1
    assert "hnn (1 of 2 runs; 1 failed)" in (copy / "table.md").read_text()
    assert do(copy, cache)[0] == 0
    assert "hnn (1 of 2 runs" not in (copy / "table.md").read_text()
    assert cli.main(["table", str(copy)]) == 0


def test_two_grids_in_one_folder_are_refused_by_name(copy, cache):
    with held(copy), pytest.raises(Busy, match=str(copy)):
        do(copy, cache)


def test_results_of_two_versions_of_the_code_are_not_mixed(copy):
    where = run_folder(copy, "hnn-s0")
    result = results.read(where)
    result["provenance"]["rows"] = "other"
    results.write(where, result)
    with pytest.raises(results.ResultsError, match="different versions of the code"):
        tables.write(copy)


def test_rows_from_other_code_than_the_checkouts_are_named(copy):
    for path in copy.rglob("result.json"):
        if "hnn" in str(path):
            result = results.read(path.parent)
            result["provenance"]["evaluation"] = 7
            results.write(path.parent, result)
    console = Console(record=True, width=200, file=io.StringIO())
    tables.show(copy, console)
    assert "Made by other code or packages than this checkout's: relativistic_particle x hnn (evaluation 7, now 1)." in console.export_text()
