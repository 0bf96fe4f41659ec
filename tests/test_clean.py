"""`bench clean` removes what can be made again, and nothing else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import small_results
from filelock import FileLock
from small_results import FINISHED, ROOT

from bench import cli, identity, results, sealed


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    (tmp_path / "checkout").mkdir()
    monkeypatch.chdir(tmp_path / "checkout")


@pytest.fixture
def small(elsewhere):
    return small_results.write()


def clean(*arguments: str) -> int:
    return cli.main(["clean", *arguments])


def tree(folder: Path) -> dict[str, bytes]:
    """All files at any depth with their contents; folders and links by name."""
    found = (path for path in sorted(folder.rglob("*")) if not path.is_dir() or path.is_symlink() or not any(path.iterdir()))
    return {str(path): b"" if path.is_dir() or path.is_symlink() else path.read_bytes() for path in found}


def test_without_results_there_is_nothing_to_remove(capsys):
    assert clean() == clean("--everything") == 0
    assert capsys.readouterr().out == "nothing to remove\n" * 2
    assert not ROOT.exists()


def test_what_is_needed_stays(small, capsys):
    before = tree(ROOT)
    assert clean() == 0
    assert capsys.readouterr().out == "nothing to remove\n"
    assert tree(ROOT) == before


def test_what_nothing_needs_is_removed_and_counted_by_kind(small, capsys):
    before = tree(ROOT)
    left = small_results.leave_behind(small)
    assert clean() == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.partition(": ")[2] for line in lines} == set(left)
    assert len(lines) == len(left)
    assert [line for line in lines if line.startswith("removed 2 files, 0.0 MB: data sets of an older layout")]
    assert not [path for paths in left.values() for path in paths if path.exists()]
    locks = {name for name in before if name.endswith(".lock")}  # now with our name in them
    assert {name: content for name, content in tree(ROOT).items() if name not in locks} == {n: c for n, c in before.items() if n not in locks}
    assert clean() == 0
    assert "nothing to remove" in capsys.readouterr().out


@pytest.mark.parametrize("everything", [[], ["--everything"]])
def test_a_dry_run_says_the_same_and_removes_nothing(small, capsys, everything):
    small_results.leave_behind(small)
    before = tree(ROOT)
    assert clean("--dry-run", *everything) == 0
    said = capsys.readouterr().out
    assert tree(ROOT) == before
    assert clean(*everything) == 0
    assert capsys.readouterr().out == said.replace("would remove", "removed")


def test_everything_leaves_the_reference_alone(small, capsys):
    (small.reference / ".grid.json.0a1b2c3d.partial").write_bytes(b"left")
    (small.reference / "result.json.damaged").write_bytes(b"left")
    reference = tree(ROOT / "reference")
    small_results.leave_behind(small)
    assert clean("--everything") == 0
    assert tree(ROOT / "reference") == reference
    assert sorted(path.name for path in ROOT.iterdir()) == ["cache", "latest", "reference"]
    assert tree(ROOT / "latest") == tree(ROOT / "cache") == {}
    said = capsys.readouterr().out
    for kind in ("results", "data sets", "compiled programs", "data sets of an older layout"):
        assert said.count(f"MB: {kind}\n") == 1


@pytest.mark.parametrize("everything", [[], ["--everything"]])
def test_links_that_lead_outside_are_not_followed(small, tmp_path, everything, capsys):
    outside = tmp_path / "outside"
    (outside / "runs").mkdir(parents=True)
    small_results.write_grid(outside)  # names no run
    for name in (".x.0a1b2c3d.partial", "runs/x.damaged", "wave-0123456789abcdef.npz"):
        (outside / name).write_bytes(b"precious")
    small_results.write_result(outside / "runs" / FINISHED)
    before = tree(outside)
    for link in (ROOT / "latest" / "linked", small.output / "linked", ROOT / "cache" / "linked", ROOT / "cache" / "data" / "linked"):
        link.symlink_to(outside, target_is_directory=True)
    (small.run(small_results.FORGOTTEN)).symlink_to(outside, target_is_directory=True)
    (ROOT / "cache" / "linked.npz").symlink_to(outside / "wave-0123456789abcdef.npz")
    assert clean(*everything) == 0
    assert tree(outside) == before
    assert not os.path.lexists(small.run(small_results.FORGOTTEN))
    assert not os.path.lexists(ROOT / "cache" / "linked.npz")
    assert os.path.lexists(ROOT / "latest" / "linked") == (not everything)
    assert ("MB: links (what they lead to stays)" in capsys.readouterr().out) == bool(everything)


@pytest.mark.parametrize("link", [ROOT, ROOT / "latest", ROOT / "cache"])
def test_folders_of_results_that_are_links_are_left_alone(small, tmp_path, link, capsys):
    small_results.leave_behind(small)
    link.rename(tmp_path / "outside")
    link.symlink_to(tmp_path / "outside", target_is_directory=True)
    before = tree(tmp_path / "outside")
    assert clean("--everything") == 0
    assert f"{link} is a link: what it leads to is left alone" in capsys.readouterr().out
    assert tree(tmp_path / "outside") == before


@pytest.mark.parametrize("everything", [[], ["--everything"], ["--everything", "--dry-run"]])
@pytest.mark.parametrize("where", ["grid", "run", "data set", "older data set"])
def test_where_somebody_works_nothing_is_removed(small, capsys, where, everything):
    small_results.leave_behind(small)
    making = small.data_set.with_name(f"{small.data_set.name}.making")
    places = {"grid": small.output, "run": small.run(), "data set": making}
    lock = places[where] / ".lock" if where in places else ROOT / "cache" / "wave-0123456789abcdef.lock"
    before = tree(ROOT)
    with FileLock(lock):
        assert clean(*everything) == 2
    said = capsys.readouterr().err
    assert f"is working in {lock.parent}" in said
    assert ("process 1 on here (since then)" in said) == (where in places)
    after = tree(ROOT)
    assert after.keys() == before.keys()
    assert [name for name in after if after[name] != before[name] and not name.endswith(".lock")] == []


def test_a_lock_held_by_another_process_is_respected(small, capsys):
    small_results.leave_behind(small)
    program = "import sys, pathlib, bench.locks\nwith bench.locks.held(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    environment = os.environ | {"PYTHONPATH": str(identity.ROOT)}
    command = [sys.executable, "-c", program, str(small.output)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as other:
        assert other.stdout.readline() == "held\n"
        assert clean() == 2
        assert f"process {other.pid} on" in capsys.readouterr().err
        other.communicate()
    assert clean() == 0


def test_the_grid_is_locked_while_it_is_cleaned(small, monkeypatch):
    from bench import clean as module
    from bench import locks

    small_results.leave_behind(small)
    held = []
    remove = module._remove
    monkeypatch.setattr(module, "_remove", lambda path: (held.append(locks.is_held(small.output / ".lock")), remove(path)))
    assert clean() == 0
    assert held
    assert all(held)
    assert not locks.is_held(small.output / ".lock")


def test_what_a_grid_that_begins_meanwhile_names_is_kept(small, monkeypatch):
    from bench import locks

    small_results.leave_behind(small)
    held = locks.held

    def held_a_little_later(folder, *arguments):
        small_results.write_grid(small.output, FINISHED, small_results.FORGOTTEN)
        return held(folder, *arguments)

    monkeypatch.setattr(locks, "held", held_a_little_later)
    assert clean() == 0
    assert results.read(small.run(small_results.FORGOTTEN))["status"] == "finished"
    sealed.unseal(small.run(small_results.FORGOTTEN) / results.PARAMETERS)


@pytest.mark.parametrize("grid", [None, b"", b"rubbish", b'{"schema": 99}', b'{"schema": 2, "runs": []}', b'{"schema": 1, "runs": [1]}'])
def test_runs_are_kept_where_the_grid_cannot_be_read(small, grid):
    small_results.leave_behind(small)
    path = small.output / results.GRID
    if grid is None:
        path.unlink()
    else:
        path.write_bytes(grid)
    assert clean() == 0
    assert results.read(small.run(small_results.FORGOTTEN))["status"] == "finished"


@pytest.mark.parametrize("result", [None, {"status": "failed", "why": "its worker died"}, "damaged"])
def test_checkpoints_are_kept_while_their_run_is_not_finished(small, result):
    run = small.run(small_results.BROKEN_OFF)
    if result is not None:
        small_results.write_result(run, **(result if isinstance(result, dict) else {}))
    if result == "damaged":
        small_results.flip(run / results.RESULT)
    assert clean() == 0
    sealed.unseal(run / results.CHECKPOINTS / f"{20:012d}")


def test_what_we_did_not_write_stays(small):
    mine = [small.output / "runs" / "notes.txt", small.output / "notes.txt", ROOT / "cache" / "data" / "notes.txt", ROOT / "latest" / "notes.txt"]
    for path in mine:
        path.write_text("mine")
    assert clean() == 0
    assert all(path.read_text() == "mine" for path in mine)


@pytest.mark.skipif(os.geteuid() == 0 if hasattr(os, "geteuid") else True, reason="root may remove everything")
def test_what_cannot_be_removed_is_told(small, capsys):
    left = small_results.leave_behind(small)
    (folder,) = [path for path in left["interrupted writes"] if path.parent == small.run()]
    folder.chmod(0o500)
    assert clean() == 1
    folder.chmod(0o700)
    assert f"{folder} could not be removed (Permission denied)" in capsys.readouterr().out


@pytest.mark.parametrize("line", ["--all", "everything"])
def test_wrong_arguments_are_one_line_and_remove_nothing(small, line, capsys):
    before = tree(ROOT)
    assert clean(line) == 2
    assert line.lstrip("-") in capsys.readouterr().err
    assert tree(ROOT) == before
