"""A part of the evaluation is computed where a cell asks for it, when it is missing or has another number, and nothing else is computed again."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from bench import evaluate, grid, identity, parts, results, run, worker
from bench.parts import Part
from bench.presets import PRESETS
from bench.worker import Event, Job

TINY = replace(
    PRESETS["smoke"],
    systems=("relativistic_particle",),
    models=("second_order_ode",),
    seeds=(0,),
    steps=4,
    chunk=2,
    optimizer="adam",
    warmup=1,
    data_share=0.005,
    haste=False,
)
CELLS = {name: grid.Cell(TINY, "relativistic_particle", name) for name in ("second_order_ode", "truth", "predict_zero")}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def do(output, cache, name) -> list[Event]:
    """Does in this process what a worker does for a cell's run."""
    told = []
    worker.perform(Job("run", CELLS[name], CELLS[name].seeds, output, cache), told.append)
    return told


def state(output, name) -> str:
    return grid.state(output, CELLS[name], CELLS[name].seeds[0])


def read(output, name) -> tuple[dict, dict]:
    where = grid.folder(output, CELLS[name].run_id(CELLS[name].seeds[0]))
    result = results.read(where)
    return result, results.curves(where, result)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, cache):
    output = tmp_path_factory.mktemp("results")
    for name in CELLS:
        do(output, cache, name)
    return output


@pytest.fixture
def output(evaluated, tmp_path):
    return shutil.copytree(evaluated, tmp_path / "copy")


def plant(monkeypatch, number=1, asked=lambda cell: cell.model != "predict_zero", names=("planted", "planted_curve")):
    """A part that counts the model's states, and tells how often it was computed."""
    measured = []

    def measure(evaluator, model):
        measured.append(type(model).__name__)
        return {names[0]: float(number)}, {names[1]: np.full(3, number, np.float32)}

    monkeypatch.setitem(parts.PARTS, "planted", Part(number, asked, measure))
    return measured


def refuse_the_rest(monkeypatch):
    """From here on the evaluation without its parts fails."""
    monkeypatch.setattr(evaluate.Evaluator, "__call__", lambda *_: pytest.fail("all was evaluated again"))


@pytest.mark.parametrize("name", ["second_order_ode", "truth"])
def test_a_new_part_is_added_to_what_is_there_and_nothing_else_is_computed(output, cache, monkeypatch, name):
    (before, curves), done = read(output, name), state(output, name)
    assert done in ("measure", "done")
    measured = plant(monkeypatch)
    assert state(output, name) == ("evaluate" if name == "second_order_ode" else "missing")
    refuse_the_rest(monkeypatch)
    do(output, cache, name)
    result, now = read(output, name)
    assert len(measured) == 1
    assert state(output, name) == done
    assert result["metrics"] == {**before["metrics"], "planted": 1.0}
    assert {key: value.tobytes() for key, value in now.items()} == {
        **{key: value.tobytes() for key, value in curves.items()},
        "planted_curve": np.full(3, 1, np.float32).tobytes(),
    }
    assert result["provenance"]["parts"] == {"planted": 1}
    assert result["provenance"]["written"] == before["provenance"]["written"]
    assert set(result["provenance"]["completed"]["planted"]) == {"commit", "dirty", "written"}


def test_a_cell_that_does_not_ask_for_a_part_is_done_without(output, monkeypatch):
    done = state(output, "predict_zero")
    plant(monkeypatch)
    assert state(output, "predict_zero") == done == "done"


def test_a_part_with_another_number_replaces_what_it_gave_before(output, cache, monkeypatch):
    plant(monkeypatch, names=("planted_old", "planted_curve"))
    do(output, cache, "second_order_ode")
    measured = plant(monkeypatch, number=2)
    assert state(output, "second_order_ode") == "evaluate"
    refuse_the_rest(monkeypatch)
    do(output, cache, "second_order_ode")
    result, curves = read(output, "second_order_ode")
    assert len(measured) == 1
    assert {name: value for name, value in result["metrics"].items() if name.startswith("planted")} == {"planted": 2.0}
    assert curves["planted_curve"].tolist() == [2, 2, 2]
    assert result["provenance"]["parts"] == {"planted": 2}


def test_another_number_of_the_evaluation_computes_all_parts_again(output, cache, monkeypatch):
    plant(monkeypatch)
    do(output, cache, "second_order_ode")
    before = read(output, "second_order_ode")[0]
    monkeypatch.setattr(evaluate, "EVALUATION", evaluate.EVALUATION + 1)
    measured = plant(monkeypatch)
    do(output, cache, "second_order_ode")
    result = read(output, "second_order_ode")[0]
    assert len(measured) == 1
    assert result["metrics"] == before["metrics"]
    assert "completed" not in result["provenance"]
    assert result["provenance"]["evaluation"] == evaluate.EVALUATION


def test_a_result_of_other_parameters_is_not_completed(output, cache, monkeypatch):
    """As when a run is trained again whose parameters are gone, and comes out otherwise."""
    where = grid.folder(output, CELLS["second_order_ode"].run_id(0))
    result = results.read(where)
    results.write(where, {**result, "parameters": "0" * 64, "metrics": {**result["metrics"], "field_error": 123.0}})
    plant(monkeypatch)
    do(output, cache, "second_order_ode")
    assert read(output, "second_order_ode")[0]["metrics"]["field_error"] == result["metrics"]["field_error"]


def test_a_part_whose_numbers_are_not_called_like_it_is_refused(output, cache, monkeypatch):
    plant(monkeypatch, names=("other", "planted_curve"))
    with pytest.raises(ValueError, match=r"the part planted gives other: call it planted, or planted_\.\.\."):
        do(output, cache, "truth")


# what runs is what was named ------------------------------------------------------------------------------------------


def test_a_job_whose_files_are_not_those_that_were_named_is_refused_and_leaves_all_as_it_is(output, cache, monkeypatch, tmp_path):
    plant(monkeypatch)
    cell = replace(CELLS["second_order_ode"])
    job = Job("run", cell, (0,), output, cache)
    cell.files["models/second_order_ode.py"] = "another text"
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    with pytest.raises(grid.Changed, match=r"^models/second_order_ode\.py has changed since the run began: run again$"):
        worker.perform(job, lambda event: pytest.fail(f"{event} was told"))
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "path", ["systems/relativistic_particle.py", "systems/_mechanics.py", "models/_model.py", "bench/train.py", "bench/metrics.py"]
)
def test_every_kind_of_file_that_computes_numbers_is_looked_at(path, cache, tmp_path):
    cell = replace(CELLS["second_order_ode"])
    job = Job("run", cell, (0,), tmp_path, cache)
    assert path in cell.files
    cell.files[path] = "another text"
    with pytest.raises(grid.Changed, match=path):
        worker.perform(job, print)


def test_a_refused_job_is_not_tried_again_and_nothing_is_recorded(tmp_path, cache, monkeypatch):
    """All the way: a worker process, the pool, the grid; both seeds at once, while another cell is done."""
    changed, cell = replace(CELLS["second_order_ode"], preset=replace(TINY, seeds=(0, 1))), CELLS["predict_zero"]
    _ = changed.rows, changed.files
    changed.files["bench/train.py"] = "another text"
    output, console = tmp_path / "out", Console(record=True, width=200, file=open("/dev/null", "w"))  # noqa: SIM115
    states = {(changed, 0): "missing", (changed, 1): "missing", (cell, None): "missing"}
    failed = run._work("test", states, output, cache, 1, console, speed=False)
    why = "bench/train.py has changed since the run began: run again"
    assert failed == {(changed, 0): why, (changed, 1): why}
    said = console.export_text()
    assert said.count(f"refused: {why}") == 2
    assert "tried again" not in said
    assert grid.state(output, cell, None) == "done"
    assert [grid.folder(output, changed.run_id(seed)).exists() for seed in (0, 1)] == [False, False]


EDITING = """
import sys
from dataclasses import replace
from pathlib import Path
from rich.console import Console
from bench import grid, run
from bench.presets import PRESETS

if __name__ == "__main__":
    row = Path("models/mine.py")
    before = row.read_text()
    preset = replace(PRESETS["smoke"], systems=("relativistic_particle",), models=("mine",), seeds=(0,))
    cell = grid.Cell(preset, "relativistic_particle", "mine")
    name = cell.run_id(0)
    _ = cell.files
    for text in (before + "MORE = 1\\n", before + "MORE =\\n"):
        row.write_text(text)
        failed = run._work("test", {(cell, 0): "missing"}, Path("out"), Path("cache"), 1, Console(), speed=False)
        print("WHY", failed[cell, 0])
    print("LEFT", [path for path in Path("out").rglob("*") if path.is_file() and path.parent.name != "logs"], cell.run_id(0) == name)
"""


def test_a_row_that_is_saved_while_a_run_goes_on_is_refused_by_the_worker_that_would_import_it(tmp_path):
    """Really: another text, and one that is no Python, saved after the run was named and before its turn."""
    subprocess.run(["git", "-C", str(identity.ROOT), "checkout-index", "--all", f"--prefix={tmp_path}/"], check=True)
    shutil.copyfile(tmp_path / "models" / "mlp.py", tmp_path / "models" / "mine.py")
    (tmp_path / "editing.py").write_text(EDITING)
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "editing.py"], cwd=tmp_path, env=env, capture_output=True, text=True)
    first, second, left = [line for line in done.stdout.splitlines() if line.startswith(("WHY", "LEFT"))] or [done.stderr] * 3
    assert first == "WHY models/mine.py has changed since the run began: run again"
    assert "mine.py has changed since the run began (invalid syntax" in second
    assert left == "LEFT [] True"
