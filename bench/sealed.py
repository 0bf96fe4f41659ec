"""Files and folders that are whole, or known not to be: written beside their place, flushed, renamed, and checked before they are believed."""

import errno
import hashlib
import json
import math
import os
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
JSON_LIMIT = 32 * 2**20  # bytes of a JSON file that is read at all
PARTIAL = ".partial"  # ends the names of what is being written


class Damaged(ValueError):
    """What is on disk is not what was written; the message names it and says what is wrong."""


def is_full(error: BaseException) -> bool:
    """Whether an error says that a disk, or a quota, is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _beside(path: Path) -> Path:
    """A new name in the same folder, hidden, that no other process uses."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL}")


def _flush(path: Path) -> None:
    """Brings a file, or the names in a folder, from memory to the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file under its final name only when it is whole and on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _beside(path)
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        _flush(path.parent)
    finally:
        partial.unlink(missing_ok=True)


# JSON that carries its own checksum --------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """JSON has no infinity or NaN: they are written as strings."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: "inf", -math.inf: "-inf"}.get(value, "nan")
    return value


def numbers(values: dict) -> dict:
    """The inverse of `plain` for a dictionary of numbers, or of lists of numbers."""

    def number(value):
        if isinstance(value, list):
            return [number(item) for item in value]
        return float(value) if value in ("inf", "-inf", "nan") else value

    return {name: number(value) for name, value in values.items()}


def _stamp(content: dict) -> str:
    text = json.dumps({name: value for name, value in content.items() if name != "sha256"}, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def stamped(content: dict) -> dict:
    """The content, fit for JSON, with the SHA-256 of all of it as its last entry."""
    content = plain(content)
    return content | {"sha256": _stamp(content)}


def check_stamp(path: Path, content: dict) -> None:
    """Raises `Damaged` unless the content of a file is what was stamped."""
    try:
        whole = content.get("sha256") == _stamp(content)
    except (ValueError, RecursionError):  # an infinite number, or nesting without end, was never stamped
        whole = False
    if not whole:
        raise Damaged(f"{path} is damaged: its checksum does not fit")


def read_json(path: Path) -> dict:
    """A dictionary from a JSON file of moderate size. Raises `FileNotFoundError` or `Damaged`."""

    def refuse(constant: str):
        raise ValueError(f"{constant} is no JSON")

    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is no file")
        if path.stat().st_size > JSON_LIMIT:
            raise ValueError(f"it has more than {JSON_LIMIT >> 20} MiB")
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise Damaged(f"{path} cannot be read ({error or type(error).__name__})") from error
    if not isinstance(content, dict):
        raise Damaged(f"{path} holds no dictionary")
    return content


# folders with a list of all that is in them ------------------------------------------------------------------------


def _sum(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _files(folder: Path) -> dict[str, Path]:
    """What lies in a folder, at any depth, but for its manifest. Raises `Damaged` for anything but files and folders."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise Damaged(f"{path} is neither a file nor a folder")
        if path.is_file() and path != folder / MANIFEST:
            found[path.relative_to(folder).as_posix()] = path
    return found


def seal(folder: Path, fill: Callable[[Path], Any], notes: dict | None = None, of: str = "") -> None:
    """Makes a folder that is there whole or not at all: `fill(path)` writes files, then a manifest lists them with sizes and SHA-256.

    `notes` are kept in the manifest, and `of`: what the folder belongs to. What was under that name before is replaced.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = _beside(folder)
    try:
        partial.mkdir()
        fill(partial)
        files = _files(partial)
        manifest = stamped({"of": of, "files": {name: _sum(path) for name, path in files.items()}, "notes": notes or {}})
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False), encoding="utf-8")
        for path in (*files.values(), partial / MANIFEST, *(p for p in partial.rglob("*") if p.is_dir()), partial):
            _flush(path)
        if folder.is_symlink() or folder.is_file():
            folder.unlink()
        elif folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
        _flush(folder.parent)
    finally:
        _discard(partial)


def _discard(partial: Path) -> None:
    """Removes a folder into which a thread of orbax may still be writing when its save has failed; `sweep` removes what is left even so."""
    for _ in range(20):
        shutil.rmtree(partial, ignore_errors=True)
        if not partial.exists():
            return
        time.sleep(0.1)


def sweep(folder: Path) -> None:
    """Removes what interrupted writes left in a folder. For who holds its lock: nobody else writes there."""
    for path in folder.glob(f".*{PARTIAL}"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def replace(folder: Path, fill: Callable[[Path], Any]) -> None:
    """Replaces a folder by one that `fill(path)` makes beside it, once that is whole and on the disk: until then, and if it fails, the old one stays.

    What an interrupted replacement left is put in order first (`recover`).
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    recover(folder)
    partial, before = _beside(folder), _before(folder)
    try:
        partial.mkdir()
        fill(partial)
        for path in (*_files(partial).values(), *(p for p in partial.rglob("*") if p.is_dir()), partial):
            _flush(path)
        if folder.exists():
            folder.rename(before)
        partial.rename(folder)
        _flush(folder.parent)
    finally:
        recover(folder)


def _before(folder: Path) -> Path:
    """Where the old one is while a new one takes its place."""
    return folder.with_name(f".{folder.name}.before{PARTIAL}")


def recover(folder: Path) -> None:
    """Puts a folder back that was moved aside for a new one which never came, and removes all else that an interrupted replacement left."""
    if _before(folder).is_dir() and not os.path.lexists(folder):
        _before(folder).rename(folder)
    for path in folder.parent.iterdir() if folder.parent.is_dir() else ():
        if not (path.name.startswith(f".{folder.name}.") and path.name.endswith(PARTIAL)):
            continue
        shutil.rmtree(path, ignore_errors=True)


def unseal(folder: Path, of: str | None = None) -> dict:
    """The notes of a sealed folder, after every file in it was compared with its manifest.

    Raises `FileNotFoundError`, or `Damaged`, also where it belongs to something else than `of` (None: whatever it is).
    """
    try:
        return _unseal(folder, of)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Damaged(f"{folder} cannot be read ({error.strerror or error})") from error


def _unseal(folder: Path, of: str | None) -> dict:
    if folder.is_symlink() or not folder.is_dir():
        if os.path.lexists(folder):
            raise Damaged(f"{folder} is damaged: it is no folder")
        raise FileNotFoundError(f"there is no folder {folder}")
    try:
        manifest = read_json(folder / MANIFEST)
    except FileNotFoundError:
        raise Damaged(f"{folder} is damaged: it has no {MANIFEST}") from None
    check_stamp(folder / MANIFEST, manifest)
    if of is not None and manifest.get("of") != of:
        raise Damaged(f"{folder} is damaged: it belongs to {str(manifest.get('of'))[:80] or 'something else'}, not to {of}")
    listed, found = manifest["files"], _files(folder)
    for name in sorted(listed.keys() | found.keys()):
        if name not in found:
            raise Damaged(f"{folder} is damaged: {name} is missing")
        if name not in listed:
            raise Damaged(f"{folder} is damaged: {name} does not belong there")
        if listed[name] != _sum(found[name]):
            raise Damaged(f"{folder / name} is damaged: its checksum does not fit")
    return manifest["notes"]
