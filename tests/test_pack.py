"""`bench pack` and `bench unpack`: nothing that counts is lost, nothing is half done, and a packed model is a trained model."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import planted
import pytest
from rich.console import Console
from small_results import flip

import bench
from bench import cli, derived, grid, pack, packed, results, sealed
from bench.presets import PRESETS
from bench.run import Unwritable, run
from bench.table1 import TableOne

TINY = replace(
    PRESETS["smoke"],
    systems=("relativistic_particle",),
    models=("hnn",),
    seeds=(0, 1),
    steps=20,
    chunk=10,
    optimizer="adam",
    warmup=2,
    data_share=0.005,
)
CELL = "relativistic_particle", "hnn"


def quiet() -> Console:
    return Console(width=200, record=True, file=open(os.devnull, "w"))


def packs(source, target, console=None) -> int:
    return pack.pack(pack.PackOptions(Path(source), Path(target)), console or quiet())


def unpacks(source, target, console=None) -> int:
    return pack.unpack(pack.Options(Path(source), Path(target)), console or quiet())


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(a folder in which two seeds were trained, the cache, the same packed)."""
    root = tmp_path_factory.mktemp("results")
    assert run("smoke", TINY, root / "worked", root / "cache", 2, quiet()) == 0
    console = quiet()
    assert packs(root / "worked", root / "packed", console) == 0
    assert "parameters of 1 cells" in console.export_text()
    return root / "worked", root / "cache", root / "packed"


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """Runs of Table 1, of the grid and of published figures whose numbers are planted."""
    folder = tmp_path_factory.mktemp("planted")
    planted.fill_everything(folder, planted.FEW)
    return folder


@pytest.fixture
def planted_folder(filled, tmp_path, monkeypatch):
    """A copy of it; pictures are left out."""
    monkeypatch.setattr(derived, "_write_slowly", lambda *_: None)
    return shutil.copytree(filled, tmp_path / "worked")


@pytest.fixture
def few(made, tmp_path, monkeypatch):
    """A copy of the two trained seeds and the floors; pictures are left out."""
    monkeypatch.setattr(derived, "_write_slowly", lambda *_: None)
    return shutil.copytree(made[0], tmp_path / "worked")


def test_a_packed_folder_says_what_the_other_says(made):
    worked, _, there = made
    for name in pack.TABLES:
        assert (worked / name).exists() == (there / name).exists()
        assert not (there / name).exists() or (worked / name).read_bytes() == (there / name).read_bytes()
    assert (there / "report.html").exists()
    assert sorted(path.name for path in (there / "runs").iterdir()) == sorted({f"{'-'.join(r['run'].split('-')[:2])}.xz" for r in rows(there)})
    assert [strip(row) for row in rows(there)] == [strip(row) for row in rows(worked)]


def rows(folder) -> list[dict]:
    found, holes = grid.read_all(folder)
    assert holes == {}
    return found


def strip(row: dict) -> dict:
    return {name: value for name, value in row.items() if name not in ("curves", "sha256")}


def test_packing_again_and_packing_what_was_unpacked_give_the_same_bytes(made, tmp_path):
    worked, _, there = made
    assert packs(worked, tmp_path / "again") == 0
    assert content(tmp_path / "again") == content(there)
    assert packs(there, tmp_path / "of a packed one") == 0
    assert content(tmp_path / "of a packed one") == content(there)
    assert unpacks(there, tmp_path / "unpacked") == 0
    assert packs(tmp_path / "unpacked", tmp_path / "round") == 0
    assert content(tmp_path / "round") == content(there)


def test_a_packed_model_is_the_trained_one(made):
    worked, _, there = made
    assert bench.trained(worked) == [(*CELL, 0), (*CELL, 1)]
    assert bench.trained(there) == [(*CELL, 0)]
    (one, system), (other, _) = bench.load(worked, *CELL), bench.load(there, *CELL)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    x, c = system.sample_initial(jax.random.key(0))
    np.testing.assert_array_equal(one.derivative(x, c), other.derivative(x, c))


def test_it_is_loaded_without_orbax_which_another_version_of_jax_might_lack(made):
    code = f"import sys; sys.modules['orbax'] = None; import bench; print(bench.load({str(made[2])!r}, *{CELL!r})[1])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "RelativisticParticle" in done.stdout


def test_a_seed_without_parameters_is_told_which_have_them(made, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no parameters in .* of relativistic_particle hnn seed 1: there are those of seed 0$"):
        bench.load(made[2], *CELL, seed=1)
    copy = shutil.copytree(made[0], tmp_path / "copy")
    for path in copy.glob("runs/*/parameters"):
        shutil.rmtree(path)
    assert bench.trained(copy) == []
    with pytest.raises(FileNotFoundError, match="run the benchmark to train them here"):
        bench.load(copy, *CELL)


def test_a_damaged_cell_is_no_model(made, tmp_path):
    copy = shutil.copytree(made[2], tmp_path / "copy")
    flip(copy / "runs" / "relativistic_particle-hnn.xz", 2000)
    with pytest.raises(results.ResultsError):
        bench.load(copy, *CELL)
    assert cli.main(["show", "relativistic_particle-hnn-s0", "--folder", str(copy)]) == 2
    console = quiet()
    assert unpacks(copy, tmp_path / "unpacked", console) == 1
    assert console.export_text().count("relativistic_particle-hnn.xz is damaged") == 1
    with pytest.raises(results.ResultsError, match="is not whole: 2 of its runs have no results"):
        packs(copy, tmp_path / "again")


def test_damaged_parameters_are_not_packed(made, tmp_path):
    copy = shutil.copytree(made[0], tmp_path / "copy")
    where = grid.folder(copy, grid.Cell(TINY, *CELL).run_id(0))
    flip(where / results.PARAMETERS / sealed.MANIFEST)
    with pytest.raises(results.ResultsError, match=r"manifest\.json .*: remove .*, and `bench run` makes it again"):
        packs(copy, tmp_path / "packed")
    assert not (tmp_path / "packed").exists()
    with pytest.raises(Unwritable, match="give a folder that runs can be added to"):
        unpacks(made[2], shutil.copytree(made[2], tmp_path / "packed"))


def test_show_and_table_read_a_packed_folder(made, tmp_path, capsys):
    copy = shutil.copytree(made[2], tmp_path / "copy")
    assert cli.main(["show", "relativistic_particle-hnn-s0", "--folder", str(copy)]) == 0
    assert "acceleration_error" in capsys.readouterr().out
    (copy / "table.md").unlink()
    assert cli.main(["table", str(copy)]) == 0
    assert content(copy) == content(made[2])


def test_nothing_is_run_in_a_packed_folder(made, tmp_path):
    before = content(made[2])
    with pytest.raises(Unwritable, match="holds packed results: python -m bench unpack"):
        run("smoke", TINY, made[2], made[1], 1, quiet())
    assert content(made[2]) == before


def test_what_was_unpacked_is_finished_and_evaluated_again_where_there_are_parameters(made, tmp_path):
    _, cache, there = made
    assert unpacks(there, tmp_path) == 0
    cell = grid.Cell(TINY, *CELL)
    assert [grid.state(tmp_path, cell, seed) for seed in (0, 1)] == ["done", "done"]
    where = grid.folder(tmp_path, cell.run_id(0))
    before = results.read(where)
    for seed in (0, 1):  # evaluated by another version
        stale = results.read(grid.folder(tmp_path, cell.run_id(seed)))
        stale["provenance"] |= {"evaluation_code": "older", "evaluation": -1}
        results.write(grid.folder(tmp_path, cell.run_id(seed)), stale, results.curves(grid.folder(tmp_path, cell.run_id(seed)), stale))
    assert [grid.state(tmp_path, cell, seed) for seed in (0, 1)] == ["evaluate", "missing"]
    assert run("smoke", TINY, tmp_path, cache, 1, quiet()) == 0
    after = results.read(where)
    assert after["parameters"] == before["parameters"]
    assert after["metrics"] == before["metrics"]  # nothing was trained: the same bits
    assert unpacks(there, tmp_path) == 0
    assert results.read(where) == after  # what is there is newer


def test_verdicts_and_published_figures_of_a_packed_folder_are_the_same(planted_folder, tmp_path):
    from bench import published, symmetry, ticks

    assert packs(planted_folder, tmp_path / "packed") == 0
    one, other = TableOne(planted_folder), TableOne(tmp_path / "packed")
    assert ticks.ticks(one) == ticks.ticks(other)
    assert symmetry.markdown(one) == symmetry.markdown(other)
    assert {key: repr(cell) for key, cell in one.cells.items()} == {key: repr(cell) for key, cell in other.cells.items()}
    assert published.markdown(published.Published(planted_folder)) == published.markdown(published.Published(tmp_path / "packed"))
    assert len(list((tmp_path / "packed" / "runs").iterdir())) < 100 < len(list((planted_folder / "runs").iterdir()))


def test_packing_refuses_to_change_a_table(planted_folder, tmp_path, monkeypatch):
    assert packs(planted_folder, tmp_path / "packed") == 0
    before = content(tmp_path / "packed")
    kept = pack.kept

    def forgets(*arguments):
        return {name: values * 2 if name == "interval_change" else values for name, values in kept(*arguments).items()}

    def write(output):
        results.write_atomically(output / "table1.csv", repr(TableOne(output).cells).encode())
        return 0, None

    monkeypatch.setattr(derived, "write", write)
    monkeypatch.setattr(pack, "kept", forgets)
    with pytest.raises(results.ResultsError, match=r"packing .* would change table1\.csv"):
        packs(planted_folder, tmp_path / "packed")
    assert content(tmp_path / "packed") == before
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(sealed.PARTIAL)] == []


class Killed(BaseException):
    """Like a process that is killed: nothing is tidied up."""


@pytest.mark.parametrize("after", [0, 3])
def test_killed_while_it_writes_it_leaves_what_was_there_and_goes_on_the_next_time(few, tmp_path, monkeypatch, after):
    target = tmp_path / "packed"
    assert packs(few, target) == 0
    before, write, done = content(target), packed.write, []

    def dies(path, cell):
        if len(done) == after:
            raise Killed
        done.append(path)
        write(path, cell)

    with monkeypatch.context() as dying:
        dying.setattr(packed, "write", dies)
        dying.setattr(sealed, "recover", lambda folder: None)  # nor does `finally` run in what is killed
        with pytest.raises(Killed):
            packs(few, target)
    assert content(target) == before
    assert len([path for path in tmp_path.iterdir() if path.name.endswith(sealed.PARTIAL)]) == 1
    assert packs(few, target) == 0
    assert content(target) == before
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(sealed.PARTIAL)]


def test_killed_between_two_renames_it_gets_the_old_one_back(tmp_path):
    target = tmp_path / "packed"
    sealed.replace(target, lambda partial: (partial / "old").write_text("1"))
    target.rename(tmp_path / ".packed.before.partial")
    sealed.recover(target)
    assert content(target) == {"old": b"1"}
    shutil.copytree(target, tmp_path / ".packed.before.partial")  # killed just after
    sealed.replace(target, lambda partial: (partial / "new").write_text("2"))
    assert content(tmp_path) == {"packed/new": b"2"}


def test_an_unpacking_that_was_killed_goes_on(few, tmp_path, monkeypatch):
    assert packs(few, tmp_path / "packed") == 0
    write, done = results.write, []

    def dies(folder, *arguments):
        if len(done) == 3:
            raise Killed
        done.append(folder)
        write(folder, *arguments)

    with monkeypatch.context() as dying:
        dying.setattr(results, "write", dies)
        with pytest.raises(Killed):
            unpacks(tmp_path / "packed", tmp_path / "unpacked")
    console = quiet()
    assert unpacks(tmp_path / "packed", tmp_path / "unpacked", console) == 0
    assert "3 were there" in console.export_text()
    assert packs(tmp_path / "unpacked", tmp_path / "round") == 0
    assert content(tmp_path / "round") == content(tmp_path / "packed")


def test_what_is_no_part_of_packed_results_is_not_replaced(few, tmp_path):
    target = tmp_path / "packed"
    assert packs(few, target) == 0
    for stranger in (target / "notes.txt", target / "runs" / "notes.txt"):
        stranger.write_text("mine")
        with pytest.raises(Unwritable, match=r"notes\.txt is no part of packed results"):
            packs(few, target)
        assert stranger.read_text() == "mine"
        stranger.unlink()
    before = content(few)
    with pytest.raises(Unwritable, match="is no part of packed results"):
        packs(target, few)  # runs that were made there
    with pytest.raises(Unwritable, match="is what is read"):
        packs(target, target)
    assert content(few) == before
    (tmp_path / "link").symlink_to("packed")
    with pytest.raises(Unwritable, match="is no folder"):
        packs(few, tmp_path / "link")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("pack nowhere out", r"there is no nowhere/grid.json"),
        ("unpack nowhere out", r"there is no nowhere/grid.json"),
        ("pack worked reference/laptop", "holds committed reference results"),
        ("unpack worked reference/laptop", "holds committed reference results"),
        ("unpack worked reference/laptop --reference", "Unrecognized options: --reference"),
        ("pack worked", "results folder that is written (required)"),
    ],
)
def test_a_wrong_request_is_one_line_and_writes_nothing(line, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bench.run, "REFERENCE", tmp_path / "reference")
    assert cli.main(line.split()) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "\n" not in error.strip()
    assert list(tmp_path.iterdir()) == []
