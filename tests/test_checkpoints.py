"""Arrays on disk come back bit for bit, or are refused by name."""

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from small_results import flip
from specimens import scales

import models
import systems
from bench import cases, checkpoints, sealed, train

TREE = {"w": jnp.linspace(0, 1, 12, dtype=jnp.float32).reshape(3, 4), "deep": [jnp.array(7, jnp.int32), jnp.float64(np.pi)]}


def learner(width: int):
    model = cases.with_width(models.get("delan"), width)
    return train.initial(model, systems.get("double_pendulum").spec, model.settings, scales("double_pendulum", model.chart), 0)


def test_arrays_come_back_bit_for_bit_with_their_notes(tmp_path):
    checkpoints.save(tmp_path / "tree", TREE, {"step": 3})
    again, notes = checkpoints.restore(tmp_path / "tree", jax.tree.map(jnp.zeros_like, TREE))
    assert jax.tree.structure(again) == jax.tree.structure(TREE)
    for a, b in zip(jax.tree.leaves(TREE), jax.tree.leaves(again), strict=True):
        assert (a.dtype, a.shape, np.asarray(a).tobytes()) == (b.dtype, b.shape, np.asarray(b).tobytes())
    assert notes["step"] == 3
    assert checkpoints.digest(again) == checkpoints.digest(TREE)


def test_a_digest_depends_on_values_types_shapes_and_names():
    w = TREE["w"]
    others = [{"w": w.at[0, 0].add(1e-7)}, {"w": w.astype(jnp.float64)}, {"w": w.reshape(4, 3)}, {"v": w}, {"w": w, "v": w}]
    assert len({checkpoints.digest(tree) for tree in ({"w": w}, *others)}) == 6


def test_arrays_of_another_architecture_are_refused(tmp_path):
    model, wider = learner(16), learner(8)
    checkpoints.save(tmp_path / "model", model)
    for other in (wider, jax.tree.map(lambda leaf: leaf.astype(jnp.float64), model), {"w": jnp.zeros(3)}):
        with pytest.raises(ValueError, match="are of another architecture") as error:
            checkpoints.restore(tmp_path / "model", other)
        assert not isinstance(error.value, sealed.Damaged)


def test_a_flipped_byte_in_any_file_of_a_checkpoint_is_found(tmp_path):
    checkpoints.save(tmp_path / "tree", TREE)
    files = [path for path in sorted((tmp_path / "tree").rglob("*")) if path.is_file()]
    assert len(files) > 3
    for path in files:
        size = path.stat().st_size
        for at in {0, size // 2, size - 1} if size else ():
            flip(path, at)
            with pytest.raises(sealed.Damaged) as error:
                checkpoints.restore(tmp_path / "tree", TREE)
            assert str(tmp_path / "tree") in str(error.value)
            flip(path, at)
    checkpoints.restore(tmp_path / "tree", TREE)


def test_arrays_that_are_not_what_was_saved_are_found_though_their_files_fit(tmp_path, monkeypatch):
    monkeypatch.setattr(ocp.StandardCheckpointer, "restore", lambda *_: {**checkpoints.by_path(TREE), "w": TREE["w"] + 1})
    checkpoints.save(tmp_path / "tree", TREE)
    with pytest.raises(sealed.Damaged, match="the checksum of w does not fit"):
        checkpoints.restore(tmp_path / "tree", TREE)


@pytest.mark.parametrize("text", ["RESOURCE_EXHAUSTED: No space left on device", "Error writing: Disk quota exceeded"])
def test_a_full_disk_is_told_from_other_errors_of_the_library(tmp_path, monkeypatch, text):
    def fails(*_):
        raise ValueError(text)

    monkeypatch.setattr(ocp.StandardCheckpointer, "save", fails)
    with pytest.raises(OSError, match="No space left on device") as error:
        checkpoints.save(tmp_path / "tree", TREE)
    assert sealed.is_full(error.value)
    text = "something else"
    with pytest.raises(ValueError, match="something else"):
        checkpoints.save(tmp_path / "tree", TREE)
    assert list(tmp_path.iterdir()) == []


def test_whatever_orbax_meets_on_a_disk_that_fails_is_damage(tmp_path, monkeypatch):
    def odd(*_):
        raise RuntimeError("DATA_LOSS: the store is gone")

    checkpoints.save(tmp_path / "tree", TREE)
    monkeypatch.setattr(ocp.StandardCheckpointer, "restore", odd)
    with pytest.raises(sealed.Damaged, match="RuntimeError: DATA_LOSS: the store is gone"):
        checkpoints.restore(tmp_path / "tree", TREE)
