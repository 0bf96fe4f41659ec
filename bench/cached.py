"""Data sets on disk, named by all that they are made from: made once, and made again when damaged."""

import zipfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import jax
import numpy as np

from bench import data, identity, locks, sealed, train
from bench.data import DATA_FIELDS, DataSet, Evaluation, Split
from bench.presets import Preset
from systems._system import System

ARRAYS = "arrays.npz"
LOOKS = 5.0  # s between two looks at whether another process has made it
PARTS: dict[str, type] = {"training": Split, "validation": Split, "test": Split, "evaluation": Evaluation}


def key(name: str, system: System, preset: Preset) -> str:
    """Name of a data set in the cache: its system, and the hash of everything that it is made from."""
    told = identity.told(preset)
    made_from = {
        "system": system,
        "recording": system.recording,
        **{f: told[f] for f in DATA_FIELDS if f in told and (f != "segment" or preset.sampling != "trajectories")},
        "row": identity.row("systems", name),
        "training": train.TRAINING,
        "versions": identity.versions_in_names(),
        "device": jax.devices()[0].device_kind,
        "haste": preset.haste,  # another compilation can mean other bits
    }
    return f"{name}-{identity.digest(identity.canonical(made_from))[:16]}"


def load(name: str, system: System, preset: Preset, cache: Path, say: Callable[[str], None] = print, waiting: Callable[[], object] = bool) -> DataSet:
    """The data set from the cache, made now if it is not there, or not whole: then `say(line)` is told.

    One process makes it; others wait, and call `waiting` now and then.
    """
    folder = cache / "data" / key(name, system, preset)
    while True:
        try:
            with locks.held(folder.with_name(f"{folder.name}.making"), LOOKS):
                return _read_or_make(folder, system, preset, say)
        except locks.Busy:
            waiting()


def _read_or_make(folder: Path, system: System, preset: Preset, say: Callable[[str], None]) -> DataSet:
    try:
        return read(folder)
    except FileNotFoundError:
        pass
    except sealed.Damaged as error:
        say(f"{error}: the data set is made again")
    dataset = data.generate(system, preset)
    sealed.seal(folder, lambda partial: _write(partial / ARRAYS, dataset), of=folder.name)
    return dataset


def read(folder: Path) -> DataSet:
    """A data set from its folder. Raises `FileNotFoundError` or `Damaged`."""
    sealed.unseal(folder, folder.name)
    try:
        with np.load(folder / ARRAYS, allow_pickle=False) as file:
            return DataSet(**{name: part(*(file[f"{name}.{array.name}"] for array in fields(part))) for name, part in PARTS.items()})
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise sealed.Damaged(f"{folder / ARRAYS} holds no data set ({error})") from error


def _write(path: Path, dataset: DataSet) -> None:
    arrays = {f"{name}.{array.name}": getattr(getattr(dataset, name), array.name) for name, part in PARTS.items() for array in fields(part)}
    np.savez(path, **arrays)  # pyright: ignore[reportArgumentType]
