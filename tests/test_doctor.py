"""`bench doctor` names what is wrong, and changes nothing."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import small_results
from filelock import FileLock
from small_results import BROKEN_OFF, FINISHED, ROOT, flip

from bench import clean, cli, doctor, results, sealed
from bench.doctor import FINE, WARNING, WRONG

NAMED = {  # what is damaged -> what the doctor looks at
    "result": "results",
    "curves": "results",
    "grid": "results",
    "committed result": "results",
    "parameters": "results",
    "checkpoint": "results",
    "data set": "data sets",
    "program": "programs",
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def sound(monkeypatch):
    """A compiler that needs no look."""
    monkeypatch.setattr(doctor, "compiler_is_sound", lambda *_: True)


@pytest.fixture
def small(sound):
    return small_results.write()


def findings(what: str, sign: str | None = None) -> list[doctor.Finding]:
    return [finding for finding in doctor.examine(ROOT) if finding.what == what and sign in (None, finding.sign)]


def tree() -> dict[str, tuple]:
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in Path().rglob("*")}


def files(small) -> dict[str, Path]:
    return {
        "result": small.run() / results.RESULT,
        "curves": small.run() / results.CURVES,
        "grid": small.output / results.GRID,
        "committed result": small.reference / "runs" / FINISHED / results.RESULT,
        "parameters": small.run() / results.PARAMETERS / "arrays.npz",
        "checkpoint": small.run(BROKEN_OFF) / results.CHECKPOINTS / f"{20:012d}" / "arrays.npz",
        "data set": small.data_set / "arrays.npz",
        "program": small.program,
    }


def test_nothing_is_wrong_with_an_empty_checkout(capsys, tmp_path):
    assert cli.main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert WRONG not in said
    assert "computes on" in said
    assert "there are none yet" in said
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_wrong_with_results_as_they_were_written_and_nothing_is_changed(small, capsys):
    before = tree()
    assert cli.main(["doctor"]) == 0
    assert tree() == before
    said = capsys.readouterr().out
    assert [line for line in said.splitlines() if line[0] != FINE and "versions" not in line and " GiB free" not in line] == []
    assert f"{small.output}: 1 of 2 runs are there" in said
    assert "1 in results/cache/data" in said


@pytest.mark.parametrize("damaged", NAMED)
@pytest.mark.parametrize("how", ["flipped", "cut short"])
def test_what_is_damaged_is_named_with_what_to_do(small, capsys, damaged, how):
    path = files(small)[damaged]
    flip(path) if how == "flipped" else path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert cli.main(["doctor"]) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line[0] == WRONG]
    assert str(path) in line
    todo = {"committed result": "git restore results/reference/smoke gets it back", "program": "python -m bench clean removes it"}
    assert f" → {todo.get(damaged, 'python -m bench run makes it again')}" in line


@pytest.mark.parametrize("damaged", NAMED)
@pytest.mark.parametrize("rubbish", [b"", b"\x00\xff" * 100, b"[" * 100_000, b'{"schema": 2}', b"folder", b"link", b"loop"])
def test_rubbish_of_any_kind_does_not_end_the_examination(small, damaged, rubbish):
    path = files(small)[damaged]
    path.unlink()
    if rubbish == b"folder":
        path.mkdir()
    elif rubbish == b"link":
        path.symlink_to("nowhere")
    elif rubbish == b"loop":
        path.symlink_to(path.name)
    else:
        path.write_bytes(rubbish)
    said = list(doctor.examine(ROOT))
    assert said[-1].what == "leftovers"
    if rubbish not in (b"folder", b"link", b"loop"):
        assert [finding.what for finding in said if finding.sign == WRONG] == [NAMED[damaged]]


@pytest.mark.parametrize("text", ['{"schema": 99, "status": "finished"}', '{"schema": 99}'])
def test_results_of_a_newer_version_are_a_warning(small, text):
    for path in (small.output / results.GRID, small.reference / "runs" / FINISHED / results.RESULT):
        path.write_text(text)
    said = findings("results")
    assert [finding.sign for finding in said] == [WARNING, WARNING]
    assert all("schema 99" in finding.found for finding in said)
    assert not [path for path in clean.orphans(ROOT) if path.is_relative_to(small.output)]


def test_results_without_checksums_are_told_once_a_folder(small):
    path = small.run() / results.RESULT
    result = sealed.read_json(path)
    del result["sha256"]
    results.write_json(path, result | {"schema": 1})
    shutil.rmtree(small.run() / results.PARAMETERS)
    (small.run() / results.PARAMETERS).mkdir()  # without a manifest
    assert [(f.sign, "without checksums" in f.found) for f in findings("results")] == [(FINE, False), (WARNING, True), (FINE, False)]


def test_who_holds_a_lock_is_named_and_his_results_are_left_in_peace(small):
    flip(small.run() / results.PARAMETERS / "arrays.npz")
    with FileLock(small.output / ".lock"):
        (held,) = findings("locks")
        assert (held.sign, held.found) == (WARNING, f"process 1 on here (since then) is working in {small.output}")
        assert not findings("results", WRONG)
    (free,) = findings("locks")
    assert free.sign == FINE
    assert "3 were left by processes that have ended" in free.found
    assert findings("results", WRONG)


def test_leftovers_are_counted_by_kind(small):
    left = small_results.leave_behind(small)
    said = findings("leftovers")
    assert {finding.found.partition(",")[0] for finding in said} == {f"{kind}: {len(paths)}" for kind, paths in left.items()}
    assert {(finding.sign, finding.todo) for finding in said} == {(WARNING, "python -m bench clean removes them")}
    assert set(clean.orphans(ROOT)) == {path for paths in left.values() for path in paths}


def test_a_disk_that_is_nearly_full_is_a_warning(sound, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1.25 * 2**30))
    (said,) = findings("disk", WARNING)
    assert "1.2 GiB free" in said.found
    assert "clean" in said.todo


def test_folders_that_cannot_be_written_are_wrong(sound):
    ROOT.mkdir()
    (ROOT / "latest").write_text("a file")
    (ROOT / "cache").symlink_to("nowhere")
    assert [finding.found.partition(" (")[0] for finding in findings("disk", WRONG)] == [
        f"{ROOT / name} cannot be written" for name in ("latest", "cache")
    ]


@pytest.mark.skipif(os.geteuid() == 0 if hasattr(os, "geteuid") else True, reason="root may read and write everywhere")
def test_folders_without_permissions_are_wrong(small):
    for mode, what in ((0o500, "disk"), (0o000, "results")):
        (ROOT / "latest").chmod(mode)
        said = findings(what, WRONG)
        (ROOT / "latest").chmod(0o700)
        assert said


def test_packages_are_compared_with_the_lines_of_the_lock_that_count_here(tmp_path, sound):
    lock = tmp_path / "requirements.lock"
    lock.write_text("numpy==0.1 ; python_full_version < '3'\njax==0.0.1\nno-such-package==1\n")
    (said,) = doctor.versions(lock)
    assert said.sign == WARNING
    assert "jax " in said.found
    assert "(instead of 0.0.1)" in said.found
    assert "numpy" not in said.found
    lock.write_text("<<<<<<< HEAD\n")
    assert "names no package: <<<<<<< HEAD" in next(iter(doctor.versions(lock))).found
    lock.unlink()
    assert "there is no requirements.lock" in next(iter(doctor.versions(lock))).found


def test_a_compiler_that_is_known_to_be_wrong_or_proves_to_be_is_refused(sound, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "compiler_is_sound", lambda dtype, n: n != doctor.CANARIES[1][1])
    assert [finding.sign for finding in findings("compiler")] == [WRONG]
    monkeypatch.setattr(doctor, "compiler_is_sound", lambda *_: True)
    monkeypatch.setattr(doctor.importlib.metadata, "version", lambda _: doctor.MISCOMPILES)
    assert cli.main(["doctor"]) == 1
    assert "jaxlib 0.10.2 returns wrong numbers (jax issue 39103) → believe none of them" in capsys.readouterr().out


def test_names_of_files_cannot_move_the_cursor(small, capsys):
    name = "a\x1b[2J\n\udcff-cache"
    (small.program.parent / name).write_bytes(b"rubbish")
    assert cli.main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert r"a\x1b[2J\n\udcff-cache does not unpack" in said


def test_arguments_are_refused(capsys):
    assert cli.main(["doctor", "everything"]) == 2
    assert "everything" in capsys.readouterr().err
