"""Data sets on disk, named by all that they are made from: made once, and made again when damaged."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np

from bench import data, identity, locks, sealed
from bench.data import DATA_FIELDS, DataSet, Evaluation, Split
from bench.presets import Preset
from systems._system import System

ARRAYS = "arrays.npz"
PARTS: dict[str, type] = {"training": Split, "validation": Split, "test": Split, "evaluation": Evaluation}


def key(name: str, system: System, preset: Preset) -> str:
    """Name of a data set in the cache: its system, and the hash of everything that it is made from."""
    made_from = {
        "system": system,
        "recording": system.recording,
        **{f: getattr(preset, f) for f in DATA_FIELDS if f != "segment" or preset.sampling == "states"},
        "versions": identity.versions(),
    }
    return f"{name}-{identity.digest(identity.canonical(made_from), identity.code(name, None, identity.DATA_CODE))[:16]}"


def load(name: str, system: System, preset: Preset, cache: Path, say: Callable[[str], None] = print) -> DataSet:
    """The data set from the cache, made now if it is not there, or not whole: then `say(line)` is told. One process makes it, others wait."""
    folder = cache / "data" / key(name, system, preset)
    with locks.held(folder.with_name(f"{folder.name}.making"), wait=-1.0):
        try:
            return read(folder)
        except FileNotFoundError:
            pass
        except sealed.Damaged as error:
            say(f"{error}: the data set is made again")
        dataset = data.generate(system, preset)
        sealed.seal(folder, lambda partial: _write(partial / ARRAYS, dataset))
        return dataset


def read(folder: Path) -> DataSet:
    """A data set from its folder. Raises `FileNotFoundError` or `Damaged`."""
    sealed.unseal(folder)
    with np.load(folder / ARRAYS, allow_pickle=False) as file:
        return DataSet(**{name: part(*(file[f"{name}.{array.name}"] for array in fields(part))) for name, part in PARTS.items()})


def _write(path: Path, dataset: DataSet) -> None:
    arrays = {f"{name}.{array.name}": getattr(getattr(dataset, name), array.name) for name, part in PARTS.items() for array in fields(part)}
    np.savez(path, **arrays)  # pyright: ignore[reportArgumentType]
