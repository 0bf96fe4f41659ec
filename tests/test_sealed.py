"""A sealed folder is there whole or not at all, and whatever was done to it since is found and named."""

import errno
import os

import pytest
from small_results import flip

from bench import sealed
from bench.sealed import Damaged

CONTENT = {"a.bin": bytes(range(200)), "deep/b.txt": "θ̈".encode(), "deep/deeper/empty": b""}


def fill(folder, content=CONTENT):
    for name, value in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(value)


@pytest.fixture
def folder(tmp_path):
    sealed.seal(tmp_path / "sealed", fill, {"step": 3, "why": "θ"})
    return tmp_path / "sealed"


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_sealed_comes_back_with_its_notes(folder):
    assert sealed.unseal(folder) == {"step": 3, "why": "θ"}
    found = files(folder)
    assert found.pop("manifest.json")
    assert found == CONTENT
    assert [path.name for path in folder.parent.iterdir()] == ["sealed"]


def test_a_folder_that_is_not_there_is_missing_and_not_damaged(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        sealed.unseal(tmp_path / "nowhere")


def truncate(folder):
    (folder / "a.bin").write_bytes(CONTENT["a.bin"][:-1])


def longer(folder):
    (folder / "deep" / "deeper" / "empty").write_bytes(b"0")


def rename(folder):
    (folder / "a.bin").rename(folder / "c.bin")


def exchange(folder):
    (folder / "a.bin").rename(folder / "c")
    (folder / "deep" / "b.txt").rename(folder / "a.bin")
    (folder / "c").rename(folder / "deep" / "b.txt")


def same_bytes_elsewhere(folder):
    (folder.parent / "outside").write_bytes(CONTENT["a.bin"])
    (folder / "a.bin").unlink()
    (folder / "a.bin").symlink_to(folder.parent / "outside")


def linked_folder(folder):
    (folder / "link").symlink_to(folder / "deep")


def pipe(folder):
    os.mkfifo(folder / "pipe")


def edited_manifest(folder):
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"step": 3', '"step": 4'))


def folder_in_place_of_a_file(folder):
    (folder / "a.bin").unlink()
    (folder / "a.bin").mkdir()


DAMAGES = {
    "a flipped byte": (lambda folder: flip(folder / "a.bin"), r"a\.bin is damaged: its checksum does not fit"),
    "a truncated file": (truncate, r"a\.bin is damaged: its checksum does not fit"),
    "a byte more": (longer, r"deep/deeper/empty is damaged: its checksum does not fit"),
    "a deleted file": (lambda folder: (folder / "deep" / "b.txt").unlink(), r"deep/b\.txt is missing"),
    "an added file": (lambda folder: (folder / "deep" / "x").touch(), r"deep/x does not belong there"),
    "a renamed file": (rename, r"a\.bin is missing"),
    "two exchanged files": (exchange, r"a\.bin is damaged"),
    "a link to the same bytes": (same_bytes_elsewhere, r"a\.bin is neither a file nor a folder"),
    "a linked folder": (linked_folder, r"link is neither a file nor a folder"),
    "a pipe": (pipe, r"pipe is neither a file nor a folder"),
    "a folder in place of a file": (folder_in_place_of_a_file, r"a\.bin is missing"),
    "an edited manifest": (edited_manifest, r"manifest\.json is damaged: its checksum does not fit"),
    "a truncated manifest": (lambda folder: (folder / "manifest.json").write_text('{"files"'), r"manifest\.json cannot be read"),
    "an empty manifest": (lambda folder: (folder / "manifest.json").write_text(""), r"manifest\.json cannot be read"),
    "a manifest that is none": (lambda folder: (folder / "manifest.json").write_text("{}"), r"manifest\.json is damaged"),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), r"it has no manifest\.json"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_and_named(folder, damage):
    inflict, says = DAMAGES[damage]
    inflict(folder)
    with pytest.raises(Damaged, match=says) as error:
        sealed.unseal(folder)
    assert str(folder) in str(error.value)


def test_every_byte_of_every_file_counts(folder):
    for name in files(folder):
        if name != "manifest.json":  # layout is no part of its checksum, values are
            for at in range(len(CONTENT[name])):
                flip(folder / name, at)
                with pytest.raises(Damaged):
                    sealed.unseal(folder)
                flip(folder / name, at)
    sealed.unseal(folder)
    text = (folder / "manifest.json").read_bytes()
    for at in range(len(text)):
        flip(folder / "manifest.json", at)
        with pytest.raises(Damaged):
            sealed.unseal(folder)
        flip(folder / "manifest.json", at)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device"), ValueError("wrong")], ids=repr)
def test_a_failure_on_the_way_leaves_nothing_behind_and_the_old_folder_untouched(folder, tmp_path, error):
    before = files(folder)

    def fails(partial):
        fill(partial, {"new": b"new"})
        raise error

    for where in (folder, tmp_path / "other"):
        with pytest.raises(type(error)):
            sealed.seal(where, fails)
    assert files(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["sealed"]


def test_a_disk_that_does_not_take_the_bytes_leaves_the_old_folder_untouched(folder, tmp_path, monkeypatch):
    before = files(folder)
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "disk full")))
    with pytest.raises(OSError, match="disk full"):
        sealed.seal(folder, lambda partial: fill(partial, {"new": b"new"}))
    assert files(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["sealed"]


def test_a_folder_is_replaced_as_a_whole(folder, tmp_path):
    sealed.seal(folder, lambda partial: fill(partial, {"new": b"new"}))
    assert sealed.unseal(folder) == {}
    assert set(files(folder)) == {"new", "manifest.json"}
    assert [path.name for path in tmp_path.iterdir()] == ["sealed"]


def test_a_folder_appears_under_its_name_only_when_its_files_are_on_the_disk(tmp_path, monkeypatch):
    synced, fsync = [], os.fsync
    monkeypatch.setattr("os.fsync", lambda handle: (synced.append(os.fstat(handle).st_ino), fsync(handle)))
    flushed_before = {}

    def rename(partial, target):
        flushed_before.update({path.name: path.stat().st_ino in synced for path in (partial, *partial.rglob("*"))})
        os.rename(partial, target)

    monkeypatch.setattr(type(tmp_path), "rename", rename)
    sealed.seal(tmp_path / "sealed", fill)
    assert len(flushed_before) == 1 + len(CONTENT) + 3
    assert all(flushed_before.values()), flushed_before
    assert tmp_path.stat().st_ino == synced[-1]


def test_a_full_disk_and_a_full_quota_are_told_from_other_errors():
    assert sealed.is_full(OSError(errno.ENOSPC, ""))
    assert sealed.is_full(OSError(errno.EDQUOT, ""))
    assert not sealed.is_full(OSError(errno.EACCES, ""))
    assert not sealed.is_full(ValueError("No space left on device"))


def test_a_folder_that_belongs_to_something_else_is_refused(tmp_path):
    sealed.seal(tmp_path / "sealed", fill, of="one run")
    assert sealed.unseal(tmp_path / "sealed", "one run") == sealed.unseal(tmp_path / "sealed") == {}
    with pytest.raises(Damaged, match="it belongs to one run, not to another"):
        sealed.unseal(tmp_path / "sealed", "another")


def test_a_disk_that_cannot_be_read_is_damage(folder, monkeypatch):
    def broken(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(sealed.hashlib, "file_digest", broken)
    with pytest.raises(Damaged, match=r"cannot be read \(Input/output error\)"):
        sealed.unseal(folder)


def test_what_interrupted_writes_left_is_swept_and_nothing_else(folder, tmp_path):
    (tmp_path / ".a.0a1b2c3d.partial" / "in it").mkdir(parents=True)
    (tmp_path / ".b.0a1b2c3d.partial").write_text("half")
    (tmp_path / ".c.0a1b2c3d.partial").symlink_to(folder)
    (tmp_path / "mine.partial").write_text("mine")
    before = files(folder)
    sealed.sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"sealed", "mine.partial"}
    assert files(folder) == before
    sealed.sweep(tmp_path / "nowhere")
