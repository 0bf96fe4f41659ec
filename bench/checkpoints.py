"""Arrays on disk, by orbax, and never believed unchecked: orbax by itself loads a flipped byte silently.

`save` and `restore` hold any tree of arrays: trained parameters, and `Checkpoints` the last two states of a training in progress. orbax is imported
where it is needed: packed parameters (`bench/packed.py`) are loaded without it.
"""

import errno
import hashlib
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr, tree_flatten_with_path

from bench import packed, results, sealed
from bench.sealed import Damaged
from bench.train import Snapshot, column

ARRAYS = "arrays"  # orbax' part of a checkpoint's folder
KEPT = 2  # checkpoints of a run: the last one, and the one before should that be damaged


class Interrupted(Exception):
    """The training was asked to end, and has left a checkpoint."""


def by_path(tree: Any) -> dict[str, Any]:
    """Leaves by where they are in a tree."""
    return {keystr(path, simple=True, separator="/"): leaf for path, leaf in tree_flatten_with_path(tree)[0]}


def _sum(leaf) -> str:
    array = np.asarray(leaf)
    return hashlib.sha256(f"{array.dtype} {array.shape} ".encode() + np.ascontiguousarray(array).tobytes()).hexdigest()


def digest(tree: Any) -> str:
    """SHA-256 of all leaves of a tree of arrays, with their paths, types and shapes."""
    return hashlib.sha256("".join(f"{path} {_sum(leaf)} " for path, leaf in by_path(tree).items()).encode()).hexdigest()


def save(folder: Path, tree: Any, notes: dict | None = None, of: str = "") -> None:
    """Writes a tree of arrays, with notes and what it belongs to, into a sealed folder. Raises `OSError` if there is no space."""
    import orbax.checkpoint as ocp

    leaves = by_path(tree)

    def fill(partial: Path) -> None:
        try:
            with ocp.StandardCheckpointer() as checkpointer:
                checkpointer.save((partial / ARRAYS).absolute(), leaves)
        except Exception as error:  # orbax wraps what the disk said in errors of many types
            if "No space left" in str(error) or "Disk quota" in str(error):
                raise OSError(errno.ENOSPC, "No space left on device", str(folder)) from error
            raise

    sealed.seal(folder, fill, {"leaves": {path: _sum(leaf) for path, leaf in leaves.items()}, **(notes or {})}, of)


def restore(folder: Path, like: Any, of: str | None = None) -> tuple[Any, dict]:
    """(tree, notes) as they were saved; `like` is a tree of arrays of the same structure, shapes and types, `of` what they must belong to, if given.

    Raises `FileNotFoundError`, `Damaged`, or `ValueError` if the arrays are those of another architecture.
    """
    import orbax.checkpoint as ocp

    notes = sealed.unseal(folder, of)
    expected = by_path(like)
    shapes = _shapes(expected)
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            found = checkpointer.metadata((folder / ARRAYS).absolute()).item_metadata or {}
            same = {path: (tuple(found[path].shape), str(found[path].dtype)) for path in found} == shapes
            saved = checkpointer.restore((folder / ARRAYS).absolute(), expected) if same else {}
    except Exception as error:  # of any type: what orbax meets on a disk that fails between two reads
        raise Damaged(f"{folder} cannot be read ({type(error).__name__}: {str(error).partition(chr(10))[0][:200]})") from error
    if not same:
        raise ValueError(f"the arrays in {folder} are of another architecture")
    for path, leaf in saved.items():
        if notes["leaves"].get(path) != _sum(leaf):
            raise Damaged(f"{folder} is damaged: the checksum of {path} does not fit")
    return jax.tree.unflatten(jax.tree.structure(like), [saved[path] for path in expected]), notes


def leaves(folder: Path, of: str | None = None) -> tuple[dict[str, np.ndarray], dict]:
    """({path: leaf}, notes) of a tree as it was saved, whatever its structure. Raises `FileNotFoundError` or `Damaged`."""
    import orbax.checkpoint as ocp

    sealed.unseal(folder, of)
    with ocp.StandardCheckpointer() as checkpointer:
        found = checkpointer.metadata((folder / ARRAYS).absolute()).item_metadata or {}
    saved, notes = restore(folder, {path: np.zeros(of_leaf.shape, of_leaf.dtype) for path, of_leaf in dict(found).items()}, of)
    return {path: np.asarray(leaf) for path, leaf in saved.items()}, notes


def parameters(run: Path) -> dict[str, np.ndarray] | None:
    """{path: leaf} of what was trained in a run, in its folder or packed; None where it isn't there. Raises `Damaged`."""
    found = packed.parameters(run)
    if found is None and (run / results.PARAMETERS).is_dir():
        found, _ = leaves(run / results.PARAMETERS, run.name)
    return found


def assemble(found: dict[str, np.ndarray], like: Any) -> Any:
    """A tree like `like` of the leaves {path: leaf}. Raises `ValueError` if they are those of another architecture."""
    expected = by_path(like)
    if _shapes(found) != _shapes(expected):
        raise ValueError("the arrays are of another architecture")
    return jax.tree.unflatten(jax.tree.structure(like), [jnp.asarray(found[path]) for path in expected])


def _shapes(leaves: dict[str, Any]) -> dict[str, tuple]:
    return {path: (tuple(leaf.shape), str(leaf.dtype)) for path, leaf in leaves.items()}


def _numbered(folder: Path) -> dict[int, Path]:
    return {int(path.name): path for path in sorted(folder.glob("[0-9]*")) if path.name.isdecimal()}


def _owner(path: Path) -> str:
    """What a checkpoint belongs to: the run, in whose folder that of its checkpoints lies, and the step, which is its name."""
    return f"{path.parents[1].name} at step {int(path.name)}"


class Checkpoints:
    """Checkpoints of the runs that are trained in one program: one now and then, the last two of each run kept.

    `folders`: one for each run. `seconds` between checkpoints; 0: after every chunk. `say(line)` is told what was damaged. `ending()` tells whether
    training should end: then a checkpoint is written and `Interrupted` raised.
    """

    def __init__(self, folders: Sequence[Path], seconds: float, say: Callable[[str], None], ending: Callable[[], bool] = lambda: False):
        self.folders, self.seconds, self.say, self.ending = folders, seconds, say, ending
        self.resumed_at: list[int] = []  # steps at which this training was taken up again
        self.last = time.monotonic()

    def resume(self, starts: list[Snapshot]) -> list[Snapshot]:
        """The last states that all runs have whole; without one, their starts."""
        there = [_numbered(folder) for folder in self.folders]
        tried = False
        common = set.intersection(*map(set, there))
        if not common and any(there):
            self.say("the runs of one program have no checkpoint of the same step: the training starts anew")
        for step in sorted(common, reverse=True):
            try:
                restored = [self._read(paths[step], start) for paths, start in zip(there, starts, strict=True)]
            except (Damaged, ValueError) as error:
                self.say(f"{error}: an older checkpoint is looked for")
                tried = True
                for paths in there:
                    shutil.rmtree(paths[step], ignore_errors=True)
                continue
            snapshots, notes = zip(*restored, strict=True)
            self.resumed_at = [*notes[0]["resumed_at"], step]
            self.say(f"taken up again at step {step}")
            return list(snapshots)
        if tried:
            self.say("no whole checkpoint is left: the training starts anew")
        return starts

    def _read(self, path: Path, start: Snapshot) -> tuple[Snapshot, dict]:
        like = start.model, start.state, jax.random.key_data(start.key)
        (model, state, key), notes = restore(path, like, _owner(path))
        history = {name: column(name, values) for name, values in sealed.numbers(notes["history"]).items()}
        return Snapshot(notes["step"], model, state, jax.random.wrap_key_data(key), history, notes["diverged_at"]), notes

    def after_chunk(self, snapshots: Callable[[], list[Snapshot]]) -> None:
        """Writes a checkpoint if it is time. Raises `Interrupted` if training should end. Without space training goes on without."""
        ending = self.ending()
        if ending or time.monotonic() - self.last >= self.seconds:
            try:
                for folder, snapshot in zip(self.folders, snapshots(), strict=True):
                    self._write(folder, snapshot)
                for folder in self.folders:  # once all runs have the new one, so that they keep one in common
                    for path in list(_numbered(folder).values())[:-KEPT]:
                        shutil.rmtree(path, ignore_errors=True)
            except OSError as error:
                self.say(f"no checkpoint written ({error.strerror}): training goes on")
            self.last = time.monotonic()
        if ending:
            raise Interrupted

    def _write(self, folder: Path, snapshot: Snapshot) -> None:
        history = {name: values.tolist() for name, values in snapshot.history.items()}
        notes = {"step": snapshot.step, "history": history, "diverged_at": snapshot.diverged_at, "resumed_at": self.resumed_at}
        path, tree = folder / f"{snapshot.step:012d}", (snapshot.model, snapshot.state, jax.random.key_data(snapshot.key))
        save(path, tree, sealed.plain(notes), _owner(path))
