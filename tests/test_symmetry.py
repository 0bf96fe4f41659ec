"""The page on symmetries says what the numbers say."""

import numpy as np
import pytest
from planted import PRESET as SIX
from planted import fill_table1, write

from bench import grid, results, symmetry
from bench.runs import Runs
from bench.verdicts import Verdict

PRESET = SIX.__class__(**{**vars(SIX), "seeds": (0, 1, 2)})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    output = tmp_path_factory.mktemp("symmetry") / "results"
    fill_table1(output, PRESET)
    return output


def line_of(found, beginning):
    (line,) = [line for line in symmetry.answers(found) if line.startswith(beginning)]
    return line


def test_a_symmetry_counts_as_learnt_where_the_motion_keeps_its_charge_and_a_false_one_is_the_control(folder):
    found = list(symmetry.residuals(Runs(folder)))
    by_name = {(r.system, r.charge, r.model): r for r in found}
    assert (by_name["planar_particle", "rotation", "lnn"].holds, by_name["planar_particle", "rotation", "lnn"].verdict) == (True, Verdict.YES)
    assert by_name["planar_particle", "rotation", "hnn_naive"].verdict == Verdict.NO
    assert not by_name["planar_particle", "shift", "lnn"].holds
    line = line_of(found, "planar_particle, angular momentum: kept by")
    kept, _, lost = line.partition("; not kept by")
    assert "lnn (1 %)" in kept
    assert "second_order_ode" in kept, "a motion has symmetries whether or not there is a learnt energy"
    assert "hnn_naive (30 %)" in lost
    assert line.endswith("The control: 50 % or more.")
    assert by_name["planar_particle", "rotation", "hnn"].own is None, "its momenta are given"


def test_a_motion_may_have_a_symmetry_that_its_lagrangian_has_not(folder):
    runs = Runs(folder)
    for curves in runs.curves("lnn", "planar_warped"):
        curves["charge_rotation_change"] = np.full_like(curves["charge_rotation_change"], 0.2)
    found = list(symmetry.residuals(runs))
    assert "lnn (1 %)" in line_of(found, "planar_warped, angular momentum: kept by")
    assert "not kept by lnn on planar_warped (20 %), though the motion keeps the true one" in line_of(found, "A motion can have")


def test_an_interval_that_straddles_is_undecided_and_a_diverged_training_is_not_left_out(folder):
    runs = Runs(folder)
    for seed, curves in enumerate(runs.curves("lnn", "wave")):
        curves["kept_shift_change"] = np.full_like(curves["kept_shift_change"], (0.01, 0.05, 0.2)[seed])
    assert "undecided for lnn (5 %)" in line_of(list(symmetry.residuals(runs)), "wave, momentum")
    runs._curves["lnn", "wave"] = [{}, {}, {}, {}, {}, runs.curves("lnn", "wave")[0]]
    assert "not kept by lnn (∞ %)" in line_of(list(symmetry.residuals(runs)), "wave, momentum").replace("hnn_naive (30 %), ", "")


def test_a_page_without_fields_says_so(tmp_path):
    output = tmp_path / "results"
    cell = grid.Cell(PRESET, "wave", "mlp")
    grid.write_manifest(output, "smoke", PRESET, [cell], results.TABLE1)
    write(output, cell, 0)
    assert "No run has a field" in symmetry.markdown(Runs(output))
