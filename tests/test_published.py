"""Published figures stand beside ours under the nearest protocol, and each part of a recipe is tried alone."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from planted import FEW as PRESET
from planted import fill_everything, write

import models
from bench import grid, published, recipe, results
from bench.claims import CORE
from bench.literature import FIGURES
from bench.recipe import ALONE, OURS, RUNGS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    output = tmp_path_factory.mktemp("published") / "results"
    fill_everything(output, PRESET)
    return output


def test_each_recipe_differs_from_the_one_above_in_one_thing():
    lnn = models.get("lnn")
    settings = [lnn.settings_called(rung.hyperparameters) for rung in RUNGS]

    def changed(a, b):
        return {name for name in vars(a) if getattr(a, name) != getattr(b, name)}

    steps = [changed(a, b) for a, b in pairwise(settings[:5])]
    assert steps == [{"shape", "positive_start"}, {"normalise"}, {"first"}, {"last"}]
    assert changed(settings[4], settings[5]) == {"learning_rate"}, "with the optimiser comes its rate"
    assert changed(settings[5], settings[6]) == {"first", "last"}
    assert settings[5] == lnn.settings
    assert replace(settings[0], shape=lnn.paper.shape) == lnn.paper
    assert [rung.optimizer for rung in RUNGS] == ["adam"] * 5 + ["muon"] * 2


def test_runs_of_the_benchmark_are_taken_as_they_are():
    ours = {cell.run_id(seed) for cell in grid.cells(PRESET) for seed in cell.seeds}
    asked = {cell.run_id(seed) for cell in published.cells(PRESET) for seed in cell.seeds}
    assert {cell.run_id(seed) for cell in published.cells(PRESET) if cell.preset == PRESET for seed in cell.seeds} <= ours
    assert {OURS.preset(PRESET).hyperparameters, OURS.preset(PRESET).optimizer} == {PRESET.hyperparameters, PRESET.optimizer}
    assert all(grid.Cell(PRESET, system, "lnn").run_id(0) in asked & ours for system in CORE)


def test_every_published_figure_has_its_source_and_ours(folder):
    page = published.write(folder)
    text = (folder / "published.md").read_text()
    for figure in FIGURES:
        ours = published.measured(page, figure)
        assert ours is not None, figure
        assert len(ours.seeds) == (1 if figure.model == "predict_zero" else len(PRESET.seeds))
        assert figure.source in text
        assert figure.why in text
    assert len({figure.source for figure in FIGURES}) >= 3
    table = pd.read_csv(folder / "published.csv")
    assert {(folder / "runs" / run / "result.json").exists() for run in table["run"]} == {True}


def test_means_hide_the_spread_so_medians_and_the_largest_start_stand_beside(folder):
    figure = FIGURES[0]
    ours = published.measured(published.Published(folder), figure)
    assert ours is not None
    assert ours.median_start == pytest.approx(ours.value) == pytest.approx(ours.largest) == pytest.approx(0.001)
    run = results.read(grid.folder(folder, grid.Cell(PRESET, figure.system, figure.model).run_id(0)))
    curves = results.curves(grid.folder(folder, run["run"]), run)
    curves["energy_error"][3, -1] = np.inf
    assert figure.summary(figure.read(run, curves)) == np.inf, "a start that diverged is part of the mean"


def of(system, errors, diverged=0):
    metrics = [{"acceleration_error": error, "energy_error_last_median": error} for error in errors]
    rows = [{"status": "finished", "metrics": of_run} for of_run in metrics]
    return rows + [{"status": "diverged", "metrics": {}}] * diverged


def test_failures_are_counted_and_never_dropped():
    rows = of("wave", [0.01, 0.2, 0.3], diverged=3)
    assert recipe.failures(rows) == 5
    assert recipe.brief(RUNGS[0], rows, "wave") == "∞, 5 of 6", "the median is over all, those that diverged among them"


def test_where_the_forward_error_alone_does_as_well_it_is_said():
    found = {"double_pendulum": 0.011, "relativistic_particle": 0.9, "wave": 0.01}
    runs = {(ALONE, system): of(system, [error] * 6) for system, error in found.items()} | {
        (OURS, system): of(system, [0.01] * 6) for system in found
    }
    lines = list(recipe.on_the_forward_error(lambda rung, system: runs[rung, system]))
    assert ["as well" in line for line in lines] == [True, False, True]
    assert "failed 6 of 6 against 0 of 6" in lines[1]


def test_runs_that_are_missing_are_named(folder, tmp_path):
    import shutil

    copy = shutil.copytree(folder, tmp_path / "copy")
    run = grid.Cell(RUNGS[0].preset(PRESET), "wave", "lnn").run_id(1)
    shutil.rmtree(copy / "runs" / run)
    assert run in published.markdown(published.Published(copy))
    write(copy, grid.Cell(RUNGS[0].preset(PRESET), "wave", "lnn"), 1, status="diverged", diverged_at_step=7)
    assert run not in published.markdown(published.Published(copy))
