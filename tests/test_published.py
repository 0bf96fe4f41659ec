"""Published figures stand beside ours under the nearest protocol, and each part of a recipe is tried alone."""

import re
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from planted import FEW as PRESET
from planted import fill_everything, write

import models
from bench import budgets, grid, published, recipe, results
from bench.claims import CORE
from bench.literature import FIGURES
from bench.recipe import ALONE, OURS, RIVALS, RUNGS

ROOT = Path(__file__).parents[1]


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

    steps = [changed(a, b) for a, b in pairwise(settings)]
    assert steps == [
        {"shape", "positive_start"},
        {"normalise"},
        {"first"},
        {"last"},
        set(),
        set(),
        {"shape", "head"},
        {"products"},
        {"first", "last"},
    ]
    assert settings[-2] == lnn.settings
    assert replace(settings[0], shape=lnn.paper.shape) == lnn.paper
    assert [rung.optimizer for rung in RUNGS] == ["adam"] * 5 + ["muon"] + ["soap"] * 4
    assert [settings[4].rate_of(optimizer) for optimizer in ("adam", "muon", "soap")] == [1e-3, 2e-2, lnn.settings.learning_rate]


def test_rivals_are_shown_without_and_with_what_the_lnn_has():
    for plain, ours in zip(RIVALS[::2], RIVALS[1::2], strict=True):
        settings = [models.get(rung.model).settings_called(rung.hyperparameters) for rung in (plain, ours)]
        assert plain.model == ours.model
        assert [(s.head is None, s.products) for s in settings] == [(True, 0), (False, models.get("lnn").settings.products)]
        assert {rung.optimizer for rung in (plain, ours)} == {"soap"}


def test_the_published_loss_is_compared_at_equal_budgets_on_fresh_states():
    asked = budgets.cells(PRESET)
    of_loss = [cell for cell in asked if cell.preset.sampling == "fresh"]
    assert {(cell.model, cell.preset.hyperparameters) for cell in of_loss} == {
        ("lnn", "default"),
        ("lnn", "plain"),
        ("second_order_ode", "default"),
        ("hnn", "default"),
    }
    assert len(of_loss) == 4 * len(budgets.LENGTHS)
    assert max(budgets.LENGTHS) * PRESET.batch == 2e7
    assert {len(cell.preset.seeds) for cell in of_loss} == {min(budgets.SEEDS, len(PRESET.seeds))}
    assert [cell.preset.steps for cell in asked if cell.preset.sampling != "fresh"] == sorted({*budgets.SHORTER, PRESET.steps})


def test_half_of_a_models_own_rate_was_within_two_per_cent_of_the_best_on_fresh_states():
    table = pd.read_csv(ROOT / "results" / "reference" / "tuning_fresh.csv")
    trials = table.set_index(["model", "hyperparameters", "learning_rate"])["double_pendulum"]
    for learner in budgets.LEARNERS:
        rate = learner.preset(PRESET, budgets.LENGTHS[0]).learning_rate
        assert rate == models.get(learner.model).settings.rate_of("soap") / 2
        of_learner = trials[learner.model, learner.hyperparameters]
        assert of_learner[rate] <= 1.02 * of_learner.min()


def test_the_rate_falls_with_the_root_of_the_length_beyond_that_of_its_search():
    for learner in budgets.LEARNERS:
        rates = [learner.preset(PRESET, steps).learning_rate for steps in (2_000, budgets.SEARCHED, 4 * budgets.SEARCHED, 25 * budgets.SEARCHED)]
        falls = [1, 1, 1 / 2, 1 / 5] if learner.falls else [1, 1, 1, 1]
        np.testing.assert_allclose(rates, np.array(falls) * rates[0], rtol=1e-12)


def test_the_rate_falls_where_the_loss_on_validation_data_is_lower_for_it():
    table = pd.read_csv(ROOT / "results" / "reference" / "tuning_length.csv")
    for learner in budgets.LEARNERS:
        of_learner = table[(table.model == learner.model) & (table.hyperparameters == learner.hyperparameters)]
        for steps, trials in of_learner.groupby("steps"):
            best = trials.loc[trials["validation_loss"].idxmin(), "learning_rate"]
            chosen = learner.preset(PRESET, int(steps)).learning_rate
            assert {chosen} < set(trials["learning_rate"])
            if steps >= 60_000:
                assert chosen == best


def test_a_training_of_another_length_is_not_taken_for_that_of_the_benchmark(folder):
    page = published.Published(folder)
    steps = {row["configuration"]["preset"]["steps"] for row in page.of_rung(OURS, "double_pendulum")}
    assert steps == {PRESET.steps}
    text = (published.write(folder), (folder / "published.md").read_text())[1]
    for learner in budgets.LEARNERS:
        assert len(re.findall(rf"^\| {learner.title} \| \d+ \|.*\| \d of {min(budgets.SEEDS, len(PRESET.seeds))} \|$", text, re.MULTILINE)) == 6


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


def test_a_training_that_diverged_counts_in_a_published_figure_as_the_worst_there_is(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    energy, passes = FIGURES[0], next(figure for figure in FIGURES if figure.what.startswith("passes"))
    for figure, worst in ((energy, np.inf), (passes, 0.0)):
        before = published.measured(published.Published(copy), figure)
        write(copy, grid.Cell(figure.preset(PRESET), figure.system, figure.model), 1, status="diverged", diverged_at_step=7)
        ours = published.measured(published.Published(copy), figure)
        assert len(ours.seeds) == len(before.seeds)
        assert ours.seeds[1] == worst
        assert ours.seeds[0] == before.seeds[0]
    assert published.measured(published.Published(copy), energy).largest == np.inf
    published.write(copy)


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
    copy = shutil.copytree(folder, tmp_path / "copy")
    run = grid.Cell(RUNGS[0].preset(PRESET), "wave", "lnn").run_id(1)
    shutil.rmtree(copy / "runs" / run)
    assert run in published.markdown(published.Published(copy))
    write(copy, grid.Cell(RUNGS[0].preset(PRESET), "wave", "lnn"), 1, status="diverged", diverged_at_step=7)
    assert run not in published.markdown(published.Published(copy))
