"""Trained parameters on disk, by orbax: a flat dictionary {path: array}, put back into a model that is built anew."""

from pathlib import Path

import jax
import orbax.checkpoint as ocp
from jax.tree_util import keystr, tree_flatten_with_path

from models import Model


def _by_path(model: Model) -> dict:
    return {keystr(path, simple=True, separator="/"): leaf for path, leaf in tree_flatten_with_path(model)[0]}


def save(folder: Path, model: Model) -> None:
    """Writes the parameters of a model into a new folder, whole or not at all."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder.absolute(), _by_path(model), force=True)


def restore(folder: Path, like: Model) -> Model:
    """The model with saved parameters; `like` is an untrained one of the same class, system and settings.

    Raises `FileNotFoundError`, or `ValueError` if the parameters are of another architecture.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no parameters in {folder}: committed references hold results only; run the benchmark to train them here")
    expected = _by_path(like)
    with ocp.StandardCheckpointer() as checkpointer:
        found = checkpointer.metadata(folder.absolute()).item_metadata
        shapes = {path: tuple(found[path].shape) for path in found} if found is not None else {}
        if shapes != {path: leaf.shape for path, leaf in expected.items()}:
            raise ValueError(f"the parameters in {folder} are not those of this {type(like).__name__}: its file has changed since; run it again")
        saved = checkpointer.restore(folder.absolute(), expected)
    return jax.tree.unflatten(jax.tree.structure(like), [saved[path] for path in expected])
