"""The page on symmetries says what the numbers say."""

import numpy as np
import pytest
from planted import FEW as PRESET
from planted import fill_table1, write

from bench import grid, results, symmetry
from bench.runs import Runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    output = tmp_path_factory.mktemp("symmetry") / "results"
    fill_table1(output, PRESET)
    return output


def test_a_symmetry_counts_as_learnt_where_its_charge_is_kept_and_a_false_one_is_the_control(folder):
    found = list(symmetry.residuals(Runs(folder)))
    by_name = {(r.system, r.charge, r.model): r for r in found}
    kept, lost = by_name["planar_particle", "rotation", "lnn"], by_name["planar_particle", "rotation", "hnn_naive"]
    assert (kept.holds, symmetry._learnt(kept)) == (True, True)
    assert (lost.holds, symmetry._learnt(lost)) == (True, False)
    assert not by_name["planar_particle", "shift", "lnn"].holds
    (line,) = [line for line in symmetry.answers(found) if "angular momentum on planar_particle" in line]
    assert "learnt by" in line.partition("not learnt")[0]
    assert "lnn" in line.partition("not learnt")[0]
    assert "hnn_naive (30 %)" in line.partition("not learnt")[2]
    assert "changes by 50 % or more" in line


def test_an_energy_that_nature_does_not_keep_is_named(folder, tmp_path):
    runs = Runs(folder)
    for curves in runs.curves("delan", "relativistic_particle"):
        curves["charge_energy_change"] = np.array([[0.0], [0.4]]) * np.ones((2, curves["charge_energy_change"].shape[1]))
    (line,) = [line for line in symmetry.answers(list(symmetry.residuals(runs))) if line.startswith("Energy is built in")]
    assert "not by delan on relativistic_particle" in line


def test_a_page_without_learnt_energies_says_so(tmp_path):
    output = tmp_path / "results"
    cell = grid.Cell(PRESET, "wave", "mlp")
    grid.write_manifest(output, "smoke", PRESET, [cell], results.TABLE1)
    write(output, cell, 0)
    assert "No run has a learnt energy" in symmetry.markdown(Runs(output))
