"""Nothing that is damaged is believed: it is named, and what it held is made again."""

import random
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path

import jax
import numpy as np
import pytest
from scene import DAMAGES, ONE, ROOT, delete, flip, truncate

import models
import systems
from bench import cached, checkpoints, grid, results, sealed, train
from bench.checkpoints import Checkpoints
from bench.presets import PRESETS

PRESET = replace(PRESETS["smoke"], systems=("relativistic_particle",), models=("hnn",), seeds=(0,), steps=40, chunk=5, warmup=2, data_share=0.005)


@cache
def trainer(cache: Path) -> train.Trainer:
    """A tiny training, compiled once."""
    system = systems.get("relativistic_particle")
    return train.Trainer(models.get("hnn"), system, cached.load("relativistic_particle", system, PRESET, cache), PRESET)


def interrupted(cache: Path, folder: Path, chunks: int) -> None:
    """Leaves the checkpoints of a training that ends after so many chunks."""
    asked = iter([False] * (chunks - 1) + [True])
    with pytest.raises(checkpoints.Interrupted):
        trainer(cache)((0,), keeper=Checkpoints([folder], 0.0, print, lambda: next(asked)))


@cache
def undisturbed(cache: Path):
    (trained,) = trainer(cache)((0,))
    return bits(trained)


def bits(trained: train.Trained) -> tuple:
    """All that a training leaves, to the bit."""
    return checkpoints.digest(trained.model), {n: v.tobytes() for n, v in trained.history.items()}, trained.validation_loss, trained.diverged_at


@pytest.mark.fault("F5", "flip a byte in each kind of checkpoint file; truncate; delete", "found, older step used, same final bits")
def test_damage_to_any_file_of_a_checkpoint_is_found_and_the_older_one_is_used(tmp_path, warm, chance, measured):
    interrupted(warm, tmp_path / "whole", chunks=4)
    assert sorted(p.name for p in (tmp_path / "whole").iterdir()) == ["000000000015", "000000000020"]
    files = [p.relative_to(tmp_path / "whole") for p in sorted((tmp_path / "whole" / "000000000020").rglob("*")) if p.is_file()]
    cases = [(damage, file) for file in files for damage in (flip, truncate, delete)]
    for number, (damage, file) in enumerate(cases):
        folder = shutil.copytree(tmp_path / "whole", tmp_path / f"copy-{number}")
        damage(folder / file, chance)
        said: list[str] = []
        (trained,) = trainer(warm)((0,), keeper=Checkpoints([folder], 1e9, said.append))
        assert len(said) == 2, (damage.__name__, file, said)
        assert "damaged" in said[0] or "cannot be read" in said[0], said
        assert said[1] == "taken up again at step 15"
        assert bits(trained) == undisturbed(warm), (damage.__name__, file)
    folder = shutil.copytree(tmp_path / "whole", tmp_path / "both")
    for file in folder.rglob("manifest.json"):
        flip(file, chance)
    said = []
    (trained,) = trainer(warm)((0,), keeper=Checkpoints([folder], 1e9, said.append))
    assert said[-1] == "no whole checkpoint is left: the training starts anew"
    assert bits(trained) == undisturbed(warm)
    measured(
        f"{len(cases)} damages to {len(files)} files: all found, step 15 used instead of 20, bits equal; with both damaged it starts anew, said aloud"
    )


@pytest.mark.full
@pytest.mark.fault("F16", "`result.json` corrupt, older, newer", "named, exit 1; migrated; refused")
def test_results_that_are_corrupt_older_or_newer_are_told_apart(scene, chance, measured):
    scene.run(*ONE)
    (path,) = scene.output.glob("runs/*-hnn-*/result.json")
    whole = path.read_bytes()
    for damage in DAMAGES:
        path.write_bytes(whole)
        damage(path, chance)
        done = scene.bench("table", str(scene.output))
        assert done.code == 1, done.said
        assert "hnn-s0" in done.said
        assert ("missing" if damage is delete else "damaged") in done.said, done.said
        assert "hnn (0 of 1 runs" in done.said.replace("\n", " ") or "0 of 1" in (scene.output / "table.md").read_text()
    done = scene.bench("run", "smoke", *ONE)
    assert done.code == 0, done.said
    assert b'"hnn"' in path.read_bytes()

    older = scene.root / "results" / "latest" / "older"
    example = ROOT / "tests" / "schemas"
    manifest = sealed.read_json(example / "grid-1.json")
    old = sealed.read_json(example / "result-1.json")
    (older / "runs" / old["run"]).mkdir(parents=True)
    shutil.copy(example / "grid-1.json", older / "grid.json")
    shutil.copy(example / "result-1.json", older / "runs" / old["run"] / "result.json")
    assert manifest["schema"] == old["schema"] == 1
    assert grid.read_manifest(older)["schema"] == results.SCHEMA
    assert results.read_sealed(older / "runs" / old["run"] / "result.json", "result")["schema"] == results.SCHEMA

    newer = sealed.stamped({**sealed.read_json(path), "schema": results.SCHEMA + 1})
    results.write_json(path, newer)
    kept = path.read_bytes()
    for command in (("table", str(scene.output)), ("run", "smoke", *ONE)):
        done = scene.bench(*command)
        assert done.code == 2
        assert f"has schema {results.SCHEMA + 1}" in done.said
    assert path.read_bytes() == kept
    measured(
        "4 damages named, a hole in the table, exit 1, made again by the next run; schema 1 is migrated; a newer one is refused with exit 2 and kept"
    )


@pytest.mark.full
@pytest.mark.fault("F18", "data cache corrupt; generator changed", "regenerated, same bits; new key")
def test_a_corrupt_data_set_is_made_again_and_a_changed_generator_gives_another(scene, chance, expected, measured):
    (data,) = (p for p in (scene.root / "results/cache/data").iterdir() if not p.name.endswith(".making"))
    arrays = (data / cached.ARRAYS).read_bytes()
    for damage in (flip, truncate):
        damage(data / cached.ARRAYS, chance)
        shutil.rmtree(scene.output, ignore_errors=True)
        done = scene.run(*ONE)
        assert "the data set is made again" in done.said, done.said
        assert (data / cached.ARRAYS).read_bytes() == arrays
        assert {run: bits for run, bits in expected.items() if run in scene.outcome()} == scene.outcome()
    generator = scene.root / "bench" / "data.py"
    generator.write_text(generator.read_text().replace("FEWEST = 20 ", "FEWEST = 22 "))
    scene.run(*ONE)
    there = [p.name for p in (scene.root / "results/cache/data").iterdir() if not p.name.endswith(".making")]
    assert len(there) == 2
    assert (data / cached.ARRAYS).read_bytes() == arrays
    measured("2 damages: made again, said aloud, file and results equal to the bit; a change to bench/data.py gives a second data set")


def content(path: Path, like) -> object:
    """What a reader of the suite makes of a file or folder; an exception if it refuses."""
    if path.name == "parameters" or path.name.isdecimal():
        tree, notes = checkpoints.restore(path, like)
        return checkpoints.digest(tree), repr(sorted(notes.items()))
    if path.parent.name == "data":
        data = cached.read(path)
        return tuple(getattr(getattr(data, part), name).tobytes() for part in cached.PARTS for name in vars(getattr(data, part)))
    if path.name == "grid.json":
        return repr(grid.read_manifest(path.parent))
    result = results.read(path)
    return repr(result), {name: values.tobytes() for name, values in results.curves(path, result).items()}


@pytest.mark.fault("D1", "≥ 200 damages of random kind and place to checkpoints, parameters, data, results, curves, the grid", "0 silent corruptions")
def test_no_random_damage_is_silent(tmp_path, warm, scene, chance, short, measured):
    scene.run(*ONE)
    interrupted(warm, tmp_path / "checkpoints", chunks=3)
    start = train.Snapshot(0, *trainer(warm).start(0), history={})
    model, state, key = start.model, start.state, jax.random.key_data(start.key)
    (run,) = scene.output.glob("runs/*-hnn-*")
    (data,) = (p for p in (scene.root / "results/cache/data").iterdir() if not p.name.endswith(".making"))
    kinds = {
        "checkpoint": (tmp_path / "checkpoints" / "000000000015", (model, state, key)),
        "parameters": (run / results.PARAMETERS, model),
        "data set": (data, None),
        "result and curves": (run, None),
        "grid": (scene.output / results.GRID, None),
    }
    whole = {kind: content(path, like) for kind, (path, like) in kinds.items()}
    refused = harmless = 0
    count = 60 if short else 300
    for number in range(count):
        kind = chance.choice(sorted(kinds))
        original, like = kinds[kind]
        folder = tmp_path / "damaged" / str(number) / ("data" if kind == "data set" else "x")
        copy = folder / original.name
        if original.is_dir():
            shutil.copytree(original, copy, ignore=shutil.ignore_patterns("parameters", "checkpoints") if kind == "result and curves" else None)
            victims = [p for p in sorted(copy.rglob("*")) if p.is_file() and p.name != ".lock"]
        else:
            folder.mkdir(parents=True)
            victims = [Path(shutil.copy(original, copy))]
        for _ in range(chance.choice((1, 1, 1, 3))):
            victim = chance.choice([v for v in victims if v.exists() and v.stat().st_size] or [victims[0]])
            if victim.exists():
                chance.choice(DAMAGES)(victim, chance)
        try:
            found = content(copy, like)
        except (ValueError, FileNotFoundError):
            refused += 1
        else:
            assert found == whole[kind], f"silent corruption of {kind}: {victims}"
            harmless += 1
        shutil.rmtree(folder.parent)
    assert refused + harmless == count
    assert refused > 0.9 * count
    measured(f"{count} damages: {refused} refused by name, {harmless} changed nothing that is read (zeros over zeros, white space), 0 silent")


@pytest.mark.full
@pytest.mark.fault("D2", "damage to compiled programs in the cache", "compiled again, same bits")
def test_damaged_compiled_programs_are_compiled_again(scene, expected, chance, measured):
    programs = [p for p in (scene.root / "results/cache/xla").iterdir() if p.is_file() and p.name.endswith("-cache")]
    assert programs
    for program in programs:
        chance.choice((flip, truncate))(program, chance)
    scene.run(*ONE)
    assert {run: bits for run, bits in expected.items() if run in scene.outcome()} == scene.outcome()
    measured(f"all {len(programs)} programs damaged: bits equal")


def test_damages_change_files(tmp_path):
    for damage in DAMAGES:
        path = tmp_path / damage.__name__
        path.write_bytes(np.arange(1, 200, dtype=np.uint8).tobytes())
        before = path.read_bytes()
        damage(path, random.Random(0))
        assert not path.exists() or path.read_bytes() != before
