"""Results on disk: one `result.json` per run, the only source of truth. Tables and figures are derived from these files.

What is committed is packed, one file a cell (`bench/packed.py`): `exists`, `read` and `curves` read either form, and are told the folder that a run
would have. A file that comes from elsewhere is checked before it is used: size, checksum, schema, and the type of all that is read from it.
"""

import copy
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

import numpy as np
from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

from bench import migrations, packed, sealed
from bench.sealed import Damaged, write_atomically

SCHEMA = 2
RESULT, CURVES, PARAMETERS, CHECKPOINTS, GRID = "result.json", "curves.npz", "parameters", "checkpoints", "grid.json"
# beside grid.json, and like it: the runs that Table 1 asks for, and those that stand beside published figures
TABLE1, PUBLISHED = "table1.json", "published.json"
MANIFESTS = (GRID, TABLE1, PUBLISHED)
LOST = ("failed", "timeout")  # without numbers; the next `bench run` tries them again
RUN_NAME = re.compile(r"[a-z][a-z0-9_]*-[a-z][a-z0-9_]*(-s[0-9]+)?-[0-9a-f]{12}")  # so that no name leads out of a folder
CURVES_LIMIT = 256 * 2**20  # bytes, unpacked
AGAIN, RESTORE = "`bench run` makes it again", "`git restore` gets it back, or pack it again"  # what to do about damage, of what is packed


class Curves(TypedDict):
    """Where the curves of a run are, and their checksum."""

    file: Literal["curves.npz"]
    sha256: str


class Result(TypedDict):
    """What `result.json` holds. Metrics and speed are there by name; `inf`, `-inf` and `nan` are numbers too."""

    schema: int
    run: str
    system: str
    model: str
    seed: int | None
    status: Literal["finished", "diverged", "failed", "timeout"]
    why: str  # of a run that is lost
    diverged_at_step: int | None
    configuration: dict[str, Any]
    configuration_hash: NotRequired[str]
    scales: NotRequired[dict[str, Any] | None]
    metrics: dict[str, float]
    speed: dict[str, float]
    provenance: dict[str, Any]
    parameters: NotRequired[str | None]  # digest of the trained ones
    curves: NotRequired[Curves]
    sha256: NotRequired[str]  # of all the rest


class Code(TypedDict):
    """What a result's provenance says of the code that it comes from."""

    training: int  # numbers of the shared code
    evaluation: int
    rows: str  # hash of the rows' content


class Grid(TypedDict):
    """What `grid.json` holds."""

    schema: int
    name: str
    preset: dict[str, Any]
    runs: list[str]
    sha256: NotRequired[str]


class ResultsError(ValueError):
    """Files that cannot be read as results; the message names the file and says what to do."""


class DamagedResult(ResultsError):
    """A result that is not what was written: `bench run` makes it again."""


def tuples(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields of a dataclass as they were before JSON made lists of tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


def write_json(path: Path, content: dict) -> None:
    """A dictionary as JSON, atomically."""
    write_atomically(path, (json.dumps(sealed.plain(content), indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode())


def write_sealed(path: Path, content: dict) -> None:
    """The same with the schema and a checksum of all of it."""
    write_json(path, sealed.stamped({"schema": SCHEMA, **content}))


def read_sealed(path: Path, kind: str) -> dict:
    """A result or a grid (`kind`), brought to this schema. Raises `ResultsError`; for what is damaged, `DamagedResult`."""
    try:
        return _of_this_schema(path, kind, sealed.read_json(path))
    except FileNotFoundError:
        raise ResultsError(f"there is no {path}: run `python -m bench run` first, or give another folder") from None
    except Damaged as error:
        raise DamagedResult(f"{error}: {AGAIN}") from error


def _of_this_schema(path: Path, kind: str, content: dict) -> dict:
    """What a file holds, brought to this schema, its checksum verified. Raises `Damaged`, or `ResultsError` for a newer schema."""
    schema = content.get("schema")
    if schema == SCHEMA:
        sealed.check_stamp(path, content)
        return content
    if isinstance(schema, int) and schema > SCHEMA:
        todo = f"update the code, or choose another folder{_if_damaged(path, content)}"
        raise ResultsError(f"{path} has schema {schema}, this version reads up to {SCHEMA}: {todo}")
    return migrations.migrate(path, kind, content)


def _if_damaged(path: Path, content: dict) -> str:
    """A hint, since a flipped bit can make a number larger."""
    try:
        sealed.check_stamp(path, content)
    except Damaged:
        return "; its checksum does not fit either: if no newer version was ever used here it is damaged, and may be removed"
    return ""


def write(folder: Path, result: dict, curves: dict[str, np.ndarray] | None = None) -> None:
    """Writes the curves of a run, then its result, which names them with their SHA-256."""
    if curves is not None:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **curves)  # pyright: ignore[reportArgumentType]
        write_atomically(folder / CURVES, buffer.getvalue())
        result = {**result, "curves": {"file": CURVES, "sha256": hashlib.sha256(buffer.getvalue()).hexdigest()}}
    write_sealed(folder / RESULT, {"why": "", "diverged_at_step": None, **result})


def exists(folder: Path) -> bool:
    """Whether there is a result in a run's folder or, packed, beside it; what is damaged is there too."""
    return (folder / RESULT).exists() or packed.holds(folder)


def _packed(folder: Path, part: Callable[[Path], Any]) -> Any:
    """A part of a run that is packed; None where it isn't, or has a folder, which is newer. Raises `DamagedResult`."""
    try:
        return None if (folder / RESULT).exists() else part(folder)
    except Damaged as error:
        raise DamagedResult(f"{error}: {RESTORE}") from error


def read(folder: Path) -> dict:
    """The result of a run, in its folder or packed. Raises `ResultsError`; for what is damaged, `DamagedResult`."""
    path = folder / RESULT
    content = _packed(folder, packed.result)
    if content is None:
        result = read_sealed(path, "result")
    else:
        path = packed.path_of(folder)
        result = _packed(folder, lambda _: _of_this_schema(path, "result", copy.deepcopy(content)))
    for part in ("metrics", "speed"):
        if isinstance(result.get(part), dict):
            result[part] = sealed.numbers(result[part])
    check_schema(path, result, Result)
    try:
        named = {"training_code", "evaluation_code"} if of_old_naming(result["provenance"]) else {"training", "evaluation", "rows"}
        if absent := named - result["provenance"].keys():
            raise KeyError(f"provenance.{min(absent)}")
        if "training" in named:
            check_type({name: result["provenance"][name] for name in named}, Code)
            check_type(result["provenance"].get("parts", {}), dict[str, int], collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
        if result["status"] not in LOST:
            _ = result["curves"], result["configuration"]["recording"]["starts"] + 0
            _ = [result["provenance"][name] for name in ("commit", "dirty", "device", "platform")]
            _ = [result["provenance"]["versions"][name] for name in ("jax", "python")]
    except (KeyError, TypeError, TypeCheckError) as error:
        raise DamagedResult(f"{path} lacks {error}: `bench run` makes it again") from error
    if result["status"] not in LOST:
        _ = _curves_of(folder, result) if content is None else _packed_curves(folder, result)
    return result


def of_old_naming(provenance: dict[str, Any]) -> bool:
    """Whether a result was named by hashes of all shared code, as all were before that code got numbers: it is shown, and not mixed with others."""
    return "training_code" in provenance and "training" not in provenance


def check_schema(path: Path, content: dict, schema: type) -> None:
    """Raises `DamagedResult` unless what was read from a file has the types that it should, and names of runs that can't lead anywhere else."""
    try:
        check_type(content, schema, collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
    except TypeCheckError as error:
        raise DamagedResult(f"{path} is not as it should be ({error}): `bench run` makes it again") from error
    for run in content.get("runs", [content.get("run")]):
        if not RUN_NAME.fullmatch(run):
            raise DamagedResult(f"{path} names a run {run[:80]!r}, which no run is called: `bench run` makes it again")


def set_aside(path: Path) -> Path:
    """Moves a damaged file out of the way, and nothing else; returns where it is now."""
    aside = path.with_name(f"{path.name}.damaged")
    path.replace(aside)
    return aside


def _curves_of(folder: Path, result: dict) -> bytes:
    path = folder / CURVES
    content = path.read_bytes() if path.is_file() and path.stat().st_size <= CURVES_LIMIT else b""
    if hashlib.sha256(content).hexdigest() != result["curves"]["sha256"]:
        raise DamagedResult(f"{path} is damaged or missing: `bench run` makes it again")
    return content


def digest(curves: dict[str, np.ndarray]) -> str:
    """SHA-256 of curves with their names, types and shapes: what a packed result says of its own."""
    whole = hashlib.sha256()
    for name, values in sorted(curves.items()):
        whole.update(f"{name} {values.dtype.str} {values.shape} ".encode() + np.ascontiguousarray(values).tobytes())
    return whole.hexdigest()


def _packed_curves(folder: Path, result: dict) -> dict[str, np.ndarray] | None:
    """The curves of a run that is packed; None where it isn't."""
    if _packed(folder, packed.result) is None:
        return None
    found = _packed(folder, packed.curves)
    if found is None or digest(found) != result["curves"]["sha256"]:
        raise DamagedResult(f"{packed.path_of(folder)} holds no curves of {folder.name}, or others than its result names: {RESTORE}")
    return found


def curves(folder: Path, result: dict) -> dict[str, np.ndarray]:
    """The curves that a result names. Raises `DamagedResult` if they are not the ones that it was written with, or too large."""
    if (found := _packed_curves(folder, result)) is not None:
        return {name: values.copy() for name, values in found.items()}
    content = io.BytesIO(_curves_of(folder, result))
    try:
        with zipfile.ZipFile(content) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > CURVES_LIMIT:
                raise ValueError(f"it unpacks to more than {CURVES_LIMIT >> 20} MiB")
        with np.load(content, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise DamagedResult(f"{folder / CURVES} holds no curves ({error}): `bench run` makes it again") from error
