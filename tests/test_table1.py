"""Planted models get the verdicts that they must: what is exact, what rubs, what is noisy, what is a map, and what takes velocities for momenta."""

import io
import re
import shutil
from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from planted import PRESET, UNITS, cells, fill_table1, write
from rich.console import Console

import bench.run
import systems
from bench import cli, data, grid, results, table1, ticks
from bench.claims import CLAIMS, COLUMNS, CORE
from bench.evaluate import Evaluator
from bench.floors import Truth
from bench.run import run_table1
from bench.train import ONCE
from bench.verdicts import ENOUGH
from bench.worker import Event
from systems import _mechanics as mechanics
from systems._integrators import advance_compactly
from systems._rows import UnknownName

SEEDS = 6


class Exact(Truth):
    """The truth."""

    coarsened = False


class Rubbing(Exact):
    """The truth with a friction of 0.05 v."""

    def derivative(self, x, c):
        braking = mechanics.solve(self.system.expansion(x, c).A, -0.05 * x[1])
        return super().derivative(x, c) + jnp.stack([jnp.zeros_like(x[0]), braking])


class Noisy(Exact):
    """The truth with an acceleration that is off by waves of the state."""

    def derivative(self, x, c):
        waves = jnp.stack([jnp.sin(3 * x[0].sum() + x[1, 0] + 1), jnp.sin(2 * x[0, 0] - 3 * x[0, 1] + x[1, 1])])
        return super().derivative(x, c).at[1].add(0.2 * waves)


class Map(Exact):
    """x_{t+Δ} − x_t of the true motion, and nothing else."""

    derivative = property()  # a map has none

    def change(self, x, c):
        return advance_compactly(lambda x: self.system.field(x, c), x, self.system.recording.frame, 8) - x


class Conservative(Exact):
    """The truth with its energy: an exact Lagrangian."""

    def energy(self, x, c):
        return self.system.energy(x, c)


class Misled(Exact):
    """Hamilton's equations of the true energy as a function of (q, v), v taken for p."""

    def derivative(self, x, c):
        return mechanics.hamilton(lambda q, v, c: self.system.energy(jnp.stack([q, v]), c), x[0], x[1], c)


@cache
def dataset(name):
    """Sixteen true trajectories of eight frames, and as many evaluation starts, of the pendulum for 30 s: by the fine steps of our own integrator."""
    system = systems.get(name)
    recording = system.recording
    frames = 300 if name == "double_pendulum" else 2

    def motion(x, c, frame, count):
        def one(x, _):
            return advance_compactly(lambda x: system.field(x, c), x, frame, 64), x

        return jax.lax.scan(one, x, None, length=count)[1]

    def make(key, i):
        (x, c), (start, start_c) = system.sample_initial(key), system.sample_evaluation(key, i)
        states = motion(x, c, recording.frame, 8)
        rates = jax.vmap(lambda x: system.field(x, c))(states)
        return states, rates, c, motion(start, start_c, recording.evaluation_frame, frames + 1), start_c

    made = jax.jit(jax.vmap(make), compiler_options=ONCE)(jax.random.split(jax.random.key(3), 16), jnp.arange(16))
    x, rate, c, long, long_c = map(np.asarray, made)
    split = data.Split(x, rate, c)
    return data.DataSet(split, split, split, data.Evaluation(long, long_c, np.full(16, 30.0)))


@cache
def evaluator(name):
    """What measures the models on a system."""
    return Evaluator(systems.get(name), dataset(name))


@cache
def curves(kind, system, rollouts=False):
    """What is stored of a planted model."""
    physics, made = systems.get(system), dataset(system)
    model = kind(physics, made)
    if rollouts:
        return {name: np.asarray(values, np.float32) for name, values in evaluator(system)(model)[1].items()}
    measure = evaluator(system)
    return measure.evidence(model, measure.rates(model)[1] if hasattr(model, "derivative") else None)


def decided(tmp_path, monkeypatch, claim, kinds):
    """The cells of one claim, whose columns are planted models."""
    claim = table1.claim_called(claim)
    long = claim.name == "conservation"
    monkeypatch.setattr(table1.TableOne, "_curves_of", lambda self, row: curves(kinds[row["model"]], row["system"], long))
    table = table1.TableOne.__new__(table1.TableOne)
    table.preset = vars(PRESET)
    table.output, table.asked, table._curves, table._values = tmp_path, {}, {}, {}
    everything = {*kinds, "truth"}
    table.rows = {
        (system, model): {seed: {"run": f"{system}-{model}-s{seed}", "system": system, "model": model, "status": "finished"} for seed in range(SEEDS)}
        for system in claim.systems()
        for model in everything
    }
    return {column: table.cell(claim, column) for column in kinds if column in COLUMNS}


FIELDS = {"truth": Exact, "lnn": Exact, "second_order_ode": Exact}
KINDS = dict.fromkeys(FIELDS, Conservative)


def test_an_exact_field_and_an_exact_step_map_model_all_systems_but_only_one_of_them_learns_their_equations(tmp_path, monkeypatch):
    kinds = FIELDS | {"mlp": Map}
    assert {column: cell.verdict() for column, cell in decided(tmp_path, monkeypatch, "systems", kinds).items()} == {
        "lnn": "✓",
        "second_order_ode": "✓",
        "mlp": "✓",
    }
    assert {column: cell.verdict() for column, cell in decided(tmp_path, monkeypatch, "equations", kinds).items()} == {
        "lnn": "✓",
        "second_order_ode": "✓",
        "mlp": "✗",
    }


def test_friction_and_noise_lose_the_energy_that_an_exact_lagrangian_keeps(tmp_path, monkeypatch):
    kinds = KINDS | {"delan": Rubbing, "neural_ode": Noisy}
    cells = decided(tmp_path, monkeypatch, "conservation", kinds)
    assert {column: cell.verdict() for column, cell in cells.items()} == {"lnn": "✓", "second_order_ode": "✓", "delan": "✗", "neural_ode": "✗"}
    growth = {column: cell.measured[0].effect.value for column, cell in cells.items()}
    assert min(growth["delan"], growth["neural_ode"]) > 3


def test_an_exact_energy_in_wrong_coordinates_fails_where_velocities_are_no_momenta(tmp_path, monkeypatch):
    cells = decided(tmp_path, monkeypatch, "coordinates", FIELDS | {"hnn_naive": Misled})
    assert {column: cell.verdict() for column, cell in cells.items()} == {"lnn": "✓", "second_order_ode": "✓", "hnn_naive": "✗"}


def test_an_exact_lagrangian_has_an_energy_that_the_motion_keeps_and_a_mere_field_has_none(tmp_path, monkeypatch):
    cells = decided(tmp_path, monkeypatch, "lagrangians", KINDS | {"second_order_ode": Exact})
    assert {column: cell.verdict() for column, cell in cells.items()} == {"lnn": "✓", "second_order_ode": "✗"}
    assert [m.lacking for m in cells["second_order_ode"].measured] == [False, True]


# a results folder ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder in which nothing is missing."""
    output = tmp_path_factory.mktemp("table1") / "results"
    fill_table1(output)
    return output


@pytest.fixture
def output(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "results")


def verdicts(output, claim):
    table = table1.TableOne(output)
    return {column: table.cells[claim, column].verdict() for column in COLUMNS}


def test_ticks_follow_from_the_numbers_alone(output):
    assert set(verdicts(output, "systems").values()) == {"✓", "✗"}
    assert verdicts(output, "systems")["hnn_naive"] == "✗"
    assert verdicts(output, "coordinates")["hnn"] == "✗", "its column is decided by the naive network, which is given no momenta"
    assert verdicts(output, "lagrangians") == {
        "mlp": "✗",
        "neural_ode": "✗",
        "hnn": "✗",
        "delan": "✗",
        "lnn": "✓",
        "second_order_ode": "✗",
        "hnn_naive": "✗",
    }


def test_files_are_the_same_bytes_whenever_they_are_written(output):
    first, second = (
        {f: (output / f).read_bytes() for f in ("table1.md", "table1.csv", "table1.tex")}
        for _ in range(2)
        if not ticks.write(table1.TableOne(output), output)
    )
    assert first == second
    lines = pd.read_csv(output / "table1.csv", keep_default_na=False)
    assert len(lines) == len(COLUMNS) * sum(len(claim.criteria) for claim in CLAIMS)
    assert not lines["verdict"].isin(["?"]).any()
    text = first["table1.md"].decode()
    assert first["table1.tex"].decode().count("checkmark") == text.partition("##")[0].count("| [✓]")
    anchors = {re.sub("[^a-z -]", "", line.removeprefix("## ").lower()).replace(" ", "-") for line in text.splitlines() if line.startswith("## ")}
    assert set(re.findall(r"\]\(#([a-z-]+)\)", text)) <= anchors, "each tick leads to its numbers"


def test_what_contradicts_the_paper_or_what_was_expected_is_told(output):
    for seed in range(ENOUGH):
        write(output, grid.Cell(PRESET, "wave", "lnn"), seed, error=0.9)
        write(output, grid.Cell(PRESET, "double_pendulum", "neural_ode"), seed, error=0.015)
    table = table1.TableOne(output)
    assert [line for line in ticks.differences(table) if "dynamical systems, LNN" in line and "measured ✗, paper ✓" in line]
    assert [line for line in ticks.surprises(table) if "conservation laws, neural ODE" in line and "measured ✓, expected ✗" in line]


def test_what_hangs_on_a_threshold_is_told(output):
    for seed in range(ENOUGH):
        write(output, grid.Cell(PRESET, "wave", "lnn"), seed, error=0.07)
    (line,) = [line for line in ticks.sensitive(table1.TableOne(output)) if "dynamical systems, LNN" in line]
    assert line.endswith("✓, ✗ at 0.5 times the threshold")


def test_runs_that_are_missing_leave_a_cell_open_and_are_named(output):
    run = grid.Cell(PRESET, "wave", "lnn").run_id(3)
    shutil.rmtree(grid.folder(output, run))
    assert verdicts(output, "systems")["lnn"] == "?"
    assert [line for line in ticks.undecided(table1.TableOne(output)) if run in line]


def test_a_model_that_others_are_compared_with_is_part_of_their_cells(output):
    plain = grid.Cell(PRESET, "planar_polar", "second_order_ode")
    assert verdicts(output, "coordinates")["lnn"] == "✓"
    cell = table1.TableOne(output).cells["coordinates", "lnn"]
    assert cell.models == ("lnn", "second_order_ode")
    shutil.rmtree(grid.folder(output, plain.run_id(3)))
    assert verdicts(output, "coordinates")["lnn"] == "?"
    assert [line for line in ticks.undecided(table1.TableOne(output)) if "coordinates, LNN" in line and plain.run_id(3) in line]
    for seed in range(ENOUGH):
        write(output, plain, seed, status="diverged", diverged_at_step=7)
    assert verdicts(output, "coordinates")["lnn"] == "?", "harm in units of what harms without end is no harm"
    assert verdicts(output, "coordinates")["second_order_ode"] == "✗"


def test_cells_evaluated_by_different_code_are_refused_by_name(output):
    run = grid.Cell(PRESET, "wave", "lnn").run_id(2)
    where = grid.folder(output, run)
    write(output, grid.Cell(PRESET, "wave", "lnn"), 2, provenance={**results.read(where)["provenance"], "training": 7})
    with pytest.raises(results.ResultsError, match="different versions of the code") as error:
        table1.TableOne(output)
    assert run in str(error.value)


def test_a_training_that_diverged_counts_as_infinitely_wrong(output):
    cell = grid.Cell(PRESET, "wave", "lnn")
    for seed in range(ENOUGH):
        write(output, cell, seed, status="diverged", diverged_at_step=7)
    assert verdicts(output, "systems")["lnn"] == "✗"


def test_few_seeds_decide_only_what_is_clear(output):
    for model, error in (("lnn", 0.07), ("delan", 0.02)):
        for seed in range(ENOUGH):
            for system in CORE:
                write(output, grid.Cell(PRESET, system, model), seed, error=error)
    assert [verdicts(output, "systems")[model] for model in ("lnn", "delan")] == ["✓", "✓"]
    grid.write_manifest(output, "smoke", PRESET, cells(replace(PRESET, seeds=(0, 1, 2))), results.TABLE1)
    assert [verdicts(output, "systems")[model] for model in ("lnn", "delan")] == ["?", "✓"]
    grid.write_manifest(output, "smoke", PRESET, cells(replace(PRESET, seeds=(0, 1))), results.TABLE1)
    assert set(verdicts(output, "systems").values()) == {"?"}
    assert [line for line in ticks.undecided(table1.TableOne(output)) if "2 seeds, where at least 3 are needed" in line]


def test_without_the_truth_under_the_same_integrator_nothing_is_said_of_conservation(output):
    write(output, grid.Cell(PRESET, *table1.FLOOR), None, metrics={"x": 1.0})
    assert verdicts(output, "conservation")["lnn"] == "✓"
    shutil.rmtree(grid.folder(output, grid.Cell(PRESET, *table1.FLOOR).run_id(None)))
    assert set(verdicts(output, "conservation").values()) == {"?"}


def test_mixed_presets_and_mixed_code_are_refused_by_name(output):
    cell = grid.Cell(PRESET, "wave", "lnn")
    run = cell.run_id(2)
    other = {**cell.preset.of_a_run(), "steps": 77}
    write(output, cell, 2, configuration={"recording": {"starts": UNITS}, "preset": other})
    with pytest.raises(results.ResultsError, match="come from different presets") as error:
        table1.TableOne(output)
    assert run in str(error.value)
    write(output, cell, 2, provenance={**results.read(grid.folder(output, run))["provenance"], "rows": "other"})
    with pytest.raises(results.ResultsError, match="come from different versions of the code") as error:
        table1.TableOne(output)
    assert run in str(error.value)


def test_a_cell_is_explained_down_to_its_runs(output, capsys):
    assert cli.main(["table1", "smoke", "--output", str(output), "--explain", "coordinates", "hnn"]) == 0
    said = capsys.readouterr().out
    assert "Learns from arbitrary coordinates, HNN: ✗" in said
    for system in next(claim for claim in CLAIMS if claim.name == "coordinates").systems():
        for seed in range(ENOUGH):
            assert grid.Cell(PRESET, system, "hnn_naive").run_id(seed) in said
    assert cli.main(["table1", "smoke", "--output", str(output), "--explain", "coordinate", "hnn"]) == 2
    assert "unknown row 'coordinate': choose from systems, equations" in capsys.readouterr().err
    with pytest.raises(UnknownName, match="unknown column 'hnnn'"):
        ticks.explain(table1.TableOne(output), "systems", "hnnn", Console(file=io.StringIO()))


def made(error):
    """A pool whose runs have these errors by model; tells which were asked for."""
    asked = []

    def run(jobs, workers, logs, tell):
        for job in jobs:
            for seed in job.seeds:
                asked.append((job.cell.system, job.cell.model, seed))
                write(job.output, job.cell, seed, error(job.cell.model, seed))
                tell(job, Event("started", seed))
                tell(job, Event("done", seed, status="finished"))

    return run, asked


def test_cells_that_straddle_are_taken_up_to_ten_seeds_and_no_others(tmp_path, monkeypatch):
    run, asked = made(lambda model, seed: 0.1 + 0.06 * (-1) ** (seed or 0) if model == "delan" else 0.3 if model == "hnn_naive" else 0.01)
    monkeypatch.setattr(bench.run.pool, "run", run)
    monkeypatch.setattr(bench.run.derived, "_write_slowly", lambda table, output: None)
    assert run_table1("smoke", PRESET, 10, tmp_path / "out", tmp_path / "cache", 1, Console(file=io.StringIO())) == 0
    seeds = {
        (system, model): sorted(s for a, b, s in asked if (a, b) == (system, model))
        for system, names in table1.asked_for().items()
        for model in names
    }
    assert seeds["wave", "delan"] == list(range(10))
    assert seeds["wave", "lnn"] == list(range(ENOUGH))
    assert len(asked) == len(set(asked))
    assert len(grid.read_manifest(tmp_path / "out", results.TABLE1)["runs"]) == len(asked)
    asked.clear()
    assert run_table1("smoke", PRESET, 10, tmp_path / "out", tmp_path / "cache", 1, Console(file=io.StringIO())) == 0
    assert asked == [], "a second time nothing is left to do"


def test_a_grid_of_other_code_forgets_which_runs_table_1_asked_for(output, tmp_path, monkeypatch):
    run, _ = made(lambda model, seed: 0.01)
    monkeypatch.setattr(bench.run.pool, "run", run)
    small, said = replace(PRESET, systems=("wave",), models=("lnn",)), io.StringIO()
    monkeypatch.setattr(bench.run.derived, "_write_slowly", lambda table, output: None)
    assert bench.run.run("smoke", small, output, tmp_path / "cache", 1, Console(file=said, width=300)) == 0
    assert (output / results.TABLE1).exists()
    assert bench.run.run("smoke", replace(small, steps=7, warmup=0), output, tmp_path / "cache", 1, Console(file=said, width=300)) == 0
    assert not (output / results.TABLE1).exists()
    assert "python -m bench table1 makes it again" in said.getvalue()
