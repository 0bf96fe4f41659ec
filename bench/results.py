"""Results on disk: one `result.json` per run, the only source of truth. Tables and figures are derived from these files."""

import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

SCHEMA = 1
RESULT, CURVES, PARAMETERS, GRID = "result.json", "curves.npz", "parameters", "grid.json"
REQUIRED = ("schema", "run", "system", "model", "seed", "status", "configuration", "metrics", "speed", "provenance")


class ResultsError(ValueError):
    """Files that cannot be read as results of this version; the message names the file."""


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file under its final name only when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _plain(value):
    """JSON has no infinity or NaN: they are written as strings."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return {np.inf: "inf", -np.inf: "-inf"}.get(value, "nan")
    return value


def _numbers(values: dict) -> dict:
    return {name: float(value) if value in ("inf", "-inf", "nan") else value for name, value in values.items()}


def tuples(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields of a dataclass as they were before JSON made lists of tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


def write_json(path: Path, content: dict) -> None:
    """A dictionary as JSON, atomically."""
    write_atomically(path, (json.dumps(_plain(content), indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> dict:
    """A dictionary from a JSON file. Raises `ResultsError`, which names the file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ResultsError(f"there is no {path}: run `python -m bench run` first, or give another folder") from None
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path} cannot be read ({error}): delete it, `bench run` makes it again") from error
    if not isinstance(content, dict):
        raise ResultsError(f"{path} is not a result: delete it, `bench run` makes it again")
    return content


def write(folder: Path, result: dict, curves: dict[str, np.ndarray] | None = None) -> None:
    """Writes the curves of a run, then its result, which names them with their SHA-256."""
    if curves is not None:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **curves)  # pyright: ignore[reportArgumentType]
        write_atomically(folder / CURVES, buffer.getvalue())
        result = {**result, "curves": {"file": CURVES, "sha256": hashlib.sha256(buffer.getvalue()).hexdigest()}}
    write_json(folder / RESULT, {"schema": SCHEMA, **result})


def read(folder: Path) -> dict:
    """The result in a run's folder. Raises `ResultsError` if it is damaged or of another schema."""
    path = folder / RESULT
    result = read_json(path)
    if result.get("schema") != SCHEMA:
        raise ResultsError(
            f"{path} has schema {result.get('schema')!r}, this version reads {SCHEMA}: give another folder with --output, or move it away"
        )
    missing = [name for name in REQUIRED if name not in result]
    if missing:
        raise ResultsError(f"{path} lacks {', '.join(missing)}: delete it, `bench run` makes it again")
    return result | {"metrics": _numbers(result["metrics"]), "speed": _numbers(result["speed"])}


def curves(folder: Path, result: dict) -> dict[str, np.ndarray]:
    """The curves that a result names. Raises `ResultsError` if they are not the ones that it was written with."""
    path = folder / result["curves"]["file"]
    content = path.read_bytes() if path.exists() else b""
    if hashlib.sha256(content).hexdigest() != result["curves"]["sha256"]:
        raise ResultsError(f"{path} is damaged or missing: delete its folder, `bench run` makes it again")
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
