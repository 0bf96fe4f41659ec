"""A model that cannot be asked to learn a system says why: such a cell is shown as n/a, is not run, and is no hole."""

from dataclasses import replace

import numpy as np
import pandas as pd
import planted
import pytest
from rich.console import Console

import models
import systems
from bench import cases, derived, films, grid, published, speed, table1, tables, ticks, tune
from bench.presets import PRESETS, Preset
from bench.sheet import Sheet
from bench.verdicts import Verdict

WHY = "it has no mass matrix on a ring"
NOTE = f"n/a: delan does not apply to wave: {WHY}"


@pytest.fixture(autouse=True)
def no_ring(monkeypatch):
    """DeLaN in the place of a model that knows no rings."""
    monkeypatch.setattr(models.get("delan"), "applies", classmethod(lambda cls, system: WHY if system.spec.lattice else ""))


@pytest.fixture
def output(tmp_path):
    planted.fill_everything(tmp_path, planted.FEW)
    return tmp_path


def pairs(cells):
    return {(cell.system, cell.model) for cell in cells}


def test_every_model_of_the_repository_applies_to_every_system_unless_it_says_why(monkeypatch):
    monkeypatch.undo()
    for name in models.names():
        assert all(isinstance(models.get(name).applies(systems.get(system)), str) for system in systems.names())
    assert models.Model.applies(systems.get("wave")) == ""


def test_such_a_cell_is_part_of_no_grid():
    lost = ("wave", "delan")
    spanned = {(system, model) for system in PRESETS["smoke"].systems for model in PRESETS["smoke"].models}
    asked = pairs(cell for cell in grid.cells(PRESETS["smoke"]) if not cell.is_floor)
    assert spanned - asked == {lost}
    assert lost not in pairs(table1.cells(PRESETS["smoke"])) | pairs(published.cells(PRESETS["smoke"]))
    assert ("double_pendulum", "delan") in pairs(table1.cells(PRESETS["smoke"]))
    assert lost not in {(variant.system, variant.model) for variant in speed.variants(speed.Options())}
    assert not [name for name in cases.names() if "delan on wave" in name]
    assert [name for name in cases.names() if "delan on double_pendulum" in name]


def test_the_tables_show_it_with_the_reason_and_count_no_hole(output):
    assert tables.write(output) == 0
    assert not [run for run in grid.read_manifest(output)["runs"] if run.startswith("wave-delan")]
    text = (output / "table.md").read_text(encoding="utf-8")
    wave = text.split("## wave")[1].split("##")[0]
    (row,) = [line for line in wave.splitlines() if line.startswith("| delan")]
    assert set(row.strip("|").split("|")[1:]) == {" n/a "}
    assert [line.split("|")[1].strip() for line in wave.splitlines() if line.startswith("| ")][1:8] == list(planted.FEW.models)
    assert f"* {NOTE}." in text
    assert "| delan | n/a" not in text.split("## wave")[0]
    lines = pd.read_csv(output / "results.csv")
    assert lines[(lines.system == "wave") & (lines.model == "delan")].empty
    assert not lines[(lines.system == "double_pendulum") & (lines.model == "delan")].empty
    console = Console(record=True, width=200)
    tables.show(output, console)
    said = console.export_text()
    assert NOTE in said
    assert "n/a" in said.split("wave")[1]
    assert Sheet(output).holes() == []


def test_results_of_a_model_that_is_there_no_more_are_shown_as_before(output, monkeypatch):
    monkeypatch.setattr(models, "names", lambda: ("lnn",))
    assert Sheet(output).inapplicable == {}


def test_table_1_and_all_that_is_drawn_cope(output, monkeypatch):
    monkeypatch.setattr(films, "animations", lambda *_: [])  # of other models, and slow
    holes, table = derived.write(output)
    assert holes == 0
    for claim, verdict in (("systems", Verdict.NONE), ("equations", Verdict.NONE)):
        cell = table.cells[claim, "delan"]
        assert (cell.verdict(), cell.missing) == (verdict, ())
        assert cell.inapplicable == f"delan does not apply to wave: {WHY}"
    assert table.cells["coordinates", "delan"].verdict() != Verdict.NONE
    assert not [line for line in ticks.differences(table) if "DeLaN" in line and "n/a" in line]
    assert f"Can model dynamical systems, DeLaN: n/a, since delan does not apply to wave: {WHY}" in list(ticks.undecided(table))
    assert "n/a" in (output / "table1.tex").read_text(encoding="utf-8")
    report = (output / "report.html").read_text(encoding="utf-8")
    assert "not applicable" in report
    assert WHY in report
    console = Console(record=True, width=200)
    ticks.show(table, console)
    ticks.explain(table, "systems", "delan", console)
    assert WHY in console.export_text()


def test_a_search_for_a_rate_asks_the_systems_that_it_applies_to(tmp_path):
    preset = Preset(models=("delan", "lnn"), systems=("double_pendulum", "wave"))
    values = {
        (model, rate, system): rate
        for model in preset.models
        for rate in tune.RATES
        for system in preset.systems
        if (model, system) != ("delan", "wave")
    }
    assert tune.chosen(preset, values) == {"delan": tune.RATES[0], "lnn": tune.RATES[0]}
    tune.write(tmp_path / "tuning.csv", preset, values)
    written = pd.read_csv(tmp_path / "tuning.csv")
    assert written[written.model == "delan"]["wave"].isna().all()
    assert np.isfinite(written.geometric_mean).all()
    assert tune.criterion(replace(preset, systems=("wave",)), values, "delan", tune.RATES[0]) == np.inf
