"""Packed results: one file a cell of a results folder instead of a folder a run, fit to be committed.

`runs/<system>-<model>.xz` holds all runs of one model on one system, as `bench/pack.py` writes them and `bench/results.py` reads them: who reads
results through that file sees no difference. Unpacked, a file is a line of JSON, then bytes: `xz -dc FILE | head -1` shows the line. It says

* `results`: of every run what its `result.json` would say, stamped as there;
* `arrays`: of every array of curves or of parameters its kind, name and type, and its shape in each run (null: that one has none). The numbers of all
  follow in this order, little-endian, of each array the first bytes of all runs' numbers, then the second ones, and so on: equal things lie side by
  side and compress.

The same content gives the same bytes with the same version of liblzma. The stream carries the SHA-256 of all that it holds, and the line a stamp
of its own.
"""

import json
import lzma
import math
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench import sealed
from bench.sealed import Damaged

SUFFIX = ".xz"
SCHEMA = 1
LIMIT = 2**28  # bytes of a cell, unpacked
NUMBERS = "biuf"  # kinds of types that an array may have
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 0, "lp": 0, "pb": 0}]  # bytes that say nothing of each other's places
Arrays = dict[str, np.ndarray]


class Cell(NamedTuple):
    """All runs of one model on one system, by name."""

    results: dict[str, dict]  # what each result.json would say
    curves: dict[str, Arrays]
    parameters: dict[str, Arrays]  # of some runs: trained parameters by path


def path_of(run: Path) -> Path:
    """The file that holds a run, if it is packed; `run` is the folder that it would have, runs/<system>-<model>-...."""
    return run.with_name("-".join(run.name.split("-")[:2]) + SUFFIX)


def is_packed(output: Path) -> bool:
    """Whether a results folder holds packed cells."""
    return any((output / "runs").glob(f"*-*{SUFFIX}"))


def encode(cell: Cell) -> bytes:
    """The file's content."""
    columns: dict[tuple[str, str, str], dict[str, np.ndarray]] = {}
    for kind, of_runs in (("curves", cell.curves), ("parameters", cell.parameters)):
        for run, arrays in of_runs.items():
            for name, array in arrays.items():
                little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
                columns.setdefault((kind, name, little.dtype.str), {})[run] = little.reshape(array.shape)
    index, pieces = [], []
    for (kind, name, dtype), found in sorted(columns.items()):
        index.append([kind, name, dtype, [list(found[run].shape) if run in found else None for run in cell.results]])
        pieces.append(_transposed(b"".join(found[run].tobytes() for run in cell.results if run in found), -1, np.dtype(dtype).itemsize))
    head = sealed.stamped({"schema": SCHEMA, "results": list(cell.results.values()), "arrays": index})
    line = json.dumps(head, allow_nan=False, ensure_ascii=False).encode()
    return lzma.compress(b"\n".join([line, b"".join(pieces)]), check=lzma.CHECK_SHA256, filters=FILTERS)


def _transposed(data: bytes, rows: int, columns: int) -> bytes:
    """Bytes as a matrix [rows, columns], column by column."""
    return np.frombuffer(data, np.uint8).reshape(rows, columns).T.tobytes()


def write(path: Path, cell: Cell) -> None:
    """Writes a packed cell, atomically."""
    sealed.write_atomically(path, encode(cell))


def read(path: Path) -> Cell:
    """A packed cell. Raises `FileNotFoundError`, or `Damaged` where it is not what was written."""
    stat = path.stat()
    return _read(path, stat.st_size, stat.st_mtime_ns, stat.st_ino)


@lru_cache(maxsize=8)
def _read(path: Path, size: int, *_) -> Cell:
    """The same; once for all runs of a cell, which are asked for one after the other."""
    try:
        if not path.is_file() or size > LIMIT:
            raise ValueError("it is no file of moderate size")
        return decode(path, path.read_bytes())
    except Damaged:
        raise
    except (OSError, lzma.LZMAError, ValueError, KeyError, TypeError, AttributeError, RecursionError, EOFError) as error:
        raise Damaged(f"{path} is damaged ({str(error)[:100] or type(error).__name__})") from error


def decode(path: Path, content: bytes) -> Cell:
    """The cell that a file's content is; `path` is for messages. Raises `Damaged`, `lzma.LZMAError`, or what a wrong index leads to."""
    stream = lzma.LZMADecompressor(lzma.FORMAT_XZ)
    unpacked = stream.decompress(content, LIMIT)
    if not stream.eof or stream.unused_data or stream.check != lzma.CHECK_SHA256:
        raise ValueError("it is cut short, goes on after its end, carries no checksum, or unpacks to too much")
    line, _, data = unpacked.partition(b"\n")
    head = json.loads(line)
    sealed.check_stamp(path, head)
    if head["schema"] != SCHEMA:
        raise ValueError(f"it has schema {head['schema']}, and this version reads {SCHEMA}: update the code")
    found = Cell({result["run"]: result for result in head["results"]}, {}, {})
    at = 0
    for kind, name, dtype, shapes in head["arrays"]:
        if np.dtype(dtype).kind not in NUMBERS:
            raise ValueError(f"{name} holds no numbers")
        width, sizes = np.dtype(dtype).itemsize, [0 if shape is None else math.prod(shape) for shape in shapes]
        if min(sizes) < 0 or at + width * sum(sizes) > len(data):
            raise ValueError(f"it holds less of {name} than it says")
        numbers = np.frombuffer(_transposed(data[at : at + width * sum(sizes)], width, -1), dtype)
        at += numbers.nbytes
        ends = np.cumsum(sizes)
        for run, shape, size, end in zip(found.results, shapes, sizes, ends, strict=True):
            if shape is not None:
                array = numbers[end - size : end].reshape(shape)
                {"curves": found.curves, "parameters": found.parameters}[kind].setdefault(run, {})[name] = array
    if at != len(data):
        raise ValueError("it holds more than it says")
    return found


# of single runs, each named by the folder that it would have ------------------------------------------------------


def holds(run: Path) -> bool:
    """Whether a run is packed, or may be: in a file that is damaged nobody knows."""
    try:
        return run.name in read(path_of(run)).results
    except OSError:
        return False
    except Damaged:
        return True


def result(run: Path) -> dict | None:
    """What the run's result.json would say; None where it isn't packed. Raises `Damaged`."""
    return _of(run, "results")


def curves(run: Path) -> Arrays | None:
    """The run's curves. The same."""
    return _of(run, "curves")


def parameters(run: Path) -> Arrays | None:
    """The run's trained parameters by path. The same, and None where they were not kept."""
    return _of(run, "parameters")


def _of(run: Path, part: str):
    try:
        return getattr(read(path_of(run)), part).get(run.name)
    except OSError:
        return None
