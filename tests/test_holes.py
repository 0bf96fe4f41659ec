"""A run without numbers is a hole: it is shown and counted, no median contains it, and survivors are not compared with whole rows."""

import io
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from small_results import flip

import bench.run
from bench import cli, grid, results, sealed, tables
from bench.presets import PRESETS
from bench.run import run
from bench.worker import Event

SYSTEM = "relativistic_particle"
PRESET = replace(PRESETS["smoke"], systems=(SYSTEM,), models=("second_order_ode", "hnn"), seeds=(0, 1))
ERRORS = {("second_order_ode", 0): 0.2, ("second_order_ode", 1): 0.4, ("hnn", 0): 0.01, ("hnn", 1): 0.03}  # hnn is the better one


def write(output, cell, seed, status="finished", why="", **changes):
    """The result of a run, as a worker writes it, but for its numbers."""
    error = ERRORS.get((cell.model, seed), 1.0)
    numbers = {"metrics": {"field_error": error, "rollout_error": 2 * error, "diverged_rollouts": 0}, "speed": {"train_seconds": 3.0}}
    made = {"commit": None, "dirty": None, "device": "cpu", "platform": "Linux", "versions": {"jax": "0", "python": "3"}}
    code = {**cell.code, "attempt": 1, "resumed_at": []}
    result = {"run": cell.run_id(seed), "system": cell.system, "model": cell.model, "seed": seed, "status": status, "why": why}
    result |= {"configuration": {"recording": {"starts": 4}}, "provenance": made | code} | numbers | changes
    curves = {"time": np.linspace(0.1, 1, 10), "energy_error": np.full((4, 10), error)}
    results.write(grid.folder(output, result["run"]), result, curves)


@pytest.fixture(scope="module")
def cells():
    return {cell.model: cell for cell in grid.cells(PRESET)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, cells):
    """A results folder in which nothing is missing."""
    output = tmp_path_factory.mktemp("whole")
    grid.write_manifest(output, "smoke", PRESET)
    for cell in cells.values():
        for seed in cell.seeds:
            write(output, cell, seed)
    return output


@pytest.fixture
def output(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "results")


def lose(output, cell, seed, how):
    """Makes a hole of a run."""
    folder = grid.folder(output, cell.run_id(seed))
    if how == "missing":
        shutil.rmtree(folder)
    elif how == "damaged":
        flip(folder / "result.json", 100)
    elif how == "diverged":
        write(output, cell, seed, "diverged", diverged_at_step=7)
    else:
        write(output, cell, seed, how, "for a reason", metrics={}, speed={})


REASONS = {
    "failed": "failed (for a reason)",
    "timeout": "timeout (for a reason)",
    "diverged": "diverged (training diverged at step 7)",
    "missing": "missing (it has not been run)",
    "damaged": "damaged (",
}


def rows(output) -> dict[str, list[str]]:
    """Cells of the table of errors by row title."""
    table = (output / "table.md").read_text().partition("## Cost")[0]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("|")]
    return {title: cells for title, *cells in lines}


def test_nothing_is_said_where_nothing_is_missing(output):
    assert cli.main(["table", str(output)]) == 0
    assert rows(output)["hnn"][0] == "**0.02**<br><sub>0.01–0.03</sub>"
    assert rows(output)["second_order_ode"][0] == "0.3<br><sub>0.2–0.4</sub>"
    assert "runs have numbers" not in (output / "table.md").read_text()


@pytest.mark.parametrize("how", REASONS)
def test_a_hole_is_counted_and_named_and_in_no_median(output, cells, how, capsys):
    lose(output, cells["hnn"], 1, how)
    assert cli.main(["table", str(output)]) == (0 if how == "diverged" else 1)  # what diverged is a result
    title = f"hnn (1 of 2 runs; 1 {how})"
    assert rows(output)[title][0] == "0.01"
    run = cells["hnn"].run_id(1)
    total = len(grid.read_manifest(output)["runs"])
    text = (output / "table.md").read_text()
    assert f"{total - 1} of {total} runs have numbers; the others are part of no median: `{run}` {REASONS[how]}" in text
    said = " ".join(capsys.readouterr().out.split())
    assert f"hnn (1 of 2 runs; 1 {how})" in said
    assert f"{run}: {how} (" in said


@pytest.mark.parametrize("how", REASONS)
def test_bold_is_never_given_to_a_row_with_holes(output, cells, how):
    lose(output, cells["hnn"], 1, how)
    tables.write(output)
    assert rows(output)["second_order_ode"][0] == "**0.3**<br><sub>0.2–0.4</sub>"
    assert not [cell for cell in rows(output)[f"hnn (1 of 2 runs; 1 {how})"] if "**" in cell]


@pytest.mark.parametrize("how", REASONS)
def test_a_hole_has_no_numbers_in_tidy_tables_and_a_line_among_the_runs(output, cells, how):
    lose(output, cells["hnn"], 1, how)
    assert tables.write(output) == (how != "diverged")
    for name in ("results.csv", "speed.csv"):
        tidy = pd.read_csv(output / name)
        assert set(tidy[tidy.model == "hnn"].seed) == {0}
        assert set(tidy[tidy.model == "second_order_ode"].seed) == {0, 1}
    runs = pd.read_csv(output / "runs.csv", keep_default_na=False).set_index("run")
    assert list(runs.index) == grid.read_manifest(output)["runs"]
    line = runs.loc[cells["hnn"].run_id(1)]
    assert (line.system, line.model, line.seed, line.status) == (SYSTEM, "hnn", "1", how)
    assert f"{how} ({line.why}".startswith(REASONS[how].rstrip(")"))
    assert set(runs[runs.index != line.name].status) == {"finished"}


def test_holes_of_several_kinds_are_counted_each_and_a_row_without_numbers_is_dashes(output, cells):
    lose(output, cells["hnn"], 0, "failed")
    lose(output, cells["hnn"], 1, "timeout")
    lose(output, cells["truth"], None, "missing")
    assert tables.write(output) == 3
    assert rows(output)["hnn (0 of 2 runs; 1 failed, 1 timeout)"] == ["–"] * 3
    assert any("(0 of 1 runs; 1 missing)" in title for title in rows(output))


def test_a_folder_without_a_single_result_has_a_table_of_holes(output):
    shutil.rmtree(output / "runs")
    total = len(grid.read_manifest(output)["runs"])
    assert tables.write(output) == total
    assert f"0 of {total} runs have numbers" in (output / "table.md").read_text()
    assert cli.main(["table", str(output)]) == 1


def test_attempts_and_where_a_training_was_taken_up_again_stand_among_the_runs(output, cells):
    provenance = results.read(grid.folder(output, cells["hnn"].run_id(1)))["provenance"]
    write(output, cells["hnn"], 1, provenance=provenance | {"attempt": 2, "resumed_at": [10, 40]})
    tables.write(output)
    runs = pd.read_csv(output / "runs.csv", keep_default_na=False).set_index("run")
    assert list(map(str, runs.loc[cells["hnn"].run_id(1), ["attempt", "resumed_at"]])) == ["2", "10 40"]


def test_the_result_of_another_run_is_damage(output, cells):
    source, target = (grid.folder(output, cells["hnn"].run_id(seed)) for seed in (0, 1))
    shutil.rmtree(target)
    shutil.copytree(source, target)
    _, _, holes = grid.read_grid(output)
    assert list(holes) == [target.name]
    assert "is the result of another run" in holes[target.name]
    with pytest.raises(results.DamagedResult, match="is the result of another run"):
        grid.state(output, cells["hnn"], 1)


def test_what_is_left_to_do_of_a_run_is_told_by_what_is_there(output, cells):
    cell = cells["hnn"]
    folder = grid.folder(output, cell.run_id(0))
    assert grid.state(output, cell, 0) == "done"
    write(output, cell, 0, speed={})
    assert grid.state(output, cell, 0) == "measure"
    write(output, cell, 0, "diverged", diverged_at_step=3)
    assert grid.state(output, cell, 0) == "done"
    for status in results.LOST:
        write(output, cell, 0, status, "why", metrics={}, speed={})
        assert grid.state(output, cell, 0) == "missing"
    (folder / "parameters").mkdir()
    assert grid.state(output, cell, 0) == "evaluate"
    (folder / "result.json").unlink()
    assert grid.state(output, cell, 0) == "evaluate"
    flip(grid.folder(output, cell.run_id(1)) / "result.json", 100)
    with pytest.raises(results.DamagedResult):
        grid.state(output, cell, 1)


def test_a_run_that_is_lost_leaves_a_result_that_says_why_and_is_tried_again(tmp_path, cells, monkeypatch):
    tried = []

    def lost(jobs, workers, logs, tell):
        for job in jobs:
            for seed in job.seeds:
                tried.append(job.cell.run_id(seed))
                tell(job, Event("started", seed))
                tell(job, Event("done", seed, status="timeout", why="over its time limit of 3 s, attempt 1 (see worker-0.log)"))

    monkeypatch.setattr(bench.run.pool, "run", lost)
    said = io.StringIO()
    for attempt in (1, 2):
        assert run("smoke", PRESET, tmp_path / "out", tmp_path / "cache", 1, Console(file=said, width=200)) == 1
        assert len(tried) == attempt * len(grid.read_manifest(tmp_path / "out")["runs"])
    result = results.read(grid.folder(tmp_path / "out", cells["hnn"].run_id(1)))
    assert (result["status"], result["why"]) == ("timeout", "over its time limit of 3 s, attempt 1 (see worker-0.log)")
    assert "hnn (0 of 2 runs; 2 timeout)" in (tmp_path / "out" / "table.md").read_text()
    assert "timeout: over its time limit of 3 s" in said.getvalue()


def stopped(status):
    """A pool in which every run is lost."""

    def run(jobs, workers, logs, tell):
        for job in jobs:
            for seed in job.seeds:
                tell(job, Event("started", seed))
                tell(job, Event("done", seed, status=status, why="for a reason"))

    return run


def quietly(output, cache):
    return run("smoke", PRESET, output, cache, 1, Console(file=io.StringIO()))


def test_a_run_that_was_finished_before_it_was_lost_stays_finished(output, cells, tmp_path, monkeypatch):
    """Its result was on disk when what came after it, such as the measuring of its speed, went wrong."""
    cell = cells["hnn"]
    folder = grid.folder(output, cell.run_id(1))
    shutil.move(folder, tmp_path / "kept")

    def lost(jobs, *rest):
        if not folder.exists():
            shutil.move(tmp_path / "kept", folder)
        stopped("failed")(jobs, *rest)

    monkeypatch.setattr(bench.run.pool, "run", lost)
    before = results.read(tmp_path / "kept")
    assert quietly(output, tmp_path / "cache") == 1  # something did fail
    assert results.read(folder) == before


def test_what_was_measured_is_kept_when_a_new_evaluation_fails(output, cells, tmp_path, monkeypatch):
    cell = cells["hnn"]
    write(output, cell, 0, provenance={**results.read(grid.folder(output, cell.run_id(0)))["provenance"], "evaluation": 0})
    monkeypatch.setattr(bench.run.pool, "run", stopped("timeout"))
    assert quietly(output, tmp_path / "cache") == 1
    result = results.read(grid.folder(output, cell.run_id(0)))
    assert (result["status"], result["metrics"], result["speed"]) == ("timeout", {}, {"train_seconds": 3.0})


def test_nothing_is_set_aside_where_something_is_refused(output, cells, tmp_path):
    damaged, newer = (grid.folder(output, cells["hnn"].run_id(seed)) / "result.json" for seed in (0, 1))
    flip(damaged, 100)
    results.write_json(newer, sealed.stamped({**sealed.read_json(newer), "schema": results.SCHEMA + 1}))
    before = {path: path.read_bytes() for path in output.rglob("*.*") if path.is_file()}
    with pytest.raises(results.ResultsError, match=f"has schema {results.SCHEMA + 1}.*choose another folder$"):
        quietly(output, tmp_path / "cache")
    assert {path: path.read_bytes() for path in output.rglob("*.*") if path.is_file() and path.name != ".lock"} == before
    newer.write_text(newer.read_text().replace('"status": "finished"', '"status": "diverged"'))
    with pytest.raises(results.ResultsError, match="its checksum does not fit either"):
        quietly(output, tmp_path / "cache")
