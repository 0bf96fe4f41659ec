"""What an older version wrote is read by this one: frozen examples of every schema, as they were committed, stand in tests/schemas/."""

import hashlib
import json
import shutil
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from small_results import FINISHED, write_grid, write_result

from bench import grid, migrations, results
from bench.presets import PRESETS, Preset
from bench.results import DamagedResult

SCHEMAS = Path(__file__).parent / "schemas"
KINDS = {"result": results.Result, "grid": results.Grid}


def example(kind: str, schema: int = 1) -> dict:
    return json.loads((SCHEMAS / f"{kind}-{schema}.json").read_text())


def test_every_older_schema_has_a_migration_and_a_frozen_example_and_no_newer_one_has():
    for kind in KINDS:
        assert list(migrations.STEPS[kind]) == list(range(1, results.SCHEMA))
        for schema in migrations.STEPS[kind]:
            assert example(kind, schema)["schema"] == schema
    assert {path.name for path in SCHEMAS.iterdir()} == {f"{kind}-{schema}.json" for kind in KINDS for schema in migrations.STEPS[kind]}


@pytest.mark.parametrize("kind", KINDS)
def test_an_older_file_becomes_one_of_this_schema_and_loses_nothing(kind):
    path = SCHEMAS / f"{kind}-1.json"
    content = results.read_sealed(path, kind)
    results.check_schema(path, content, KINDS[kind])
    assert content["schema"] == results.SCHEMA
    old = example(kind)
    assert {name: content[name] for name in old if name != "schema"} == {name: old[name] for name in old if name != "schema"}
    assert set(content) - set(old) == ({"why"} if kind == "result" else set())


def test_an_older_result_is_read_with_its_numbers(tmp_path):
    write_result(tmp_path)  # its curves
    digest = hashlib.sha256((tmp_path / "curves.npz").read_bytes()).hexdigest()
    old = example("result") | {"curves": {"file": "curves.npz", "sha256": digest}}
    (tmp_path / "result.json").write_text(json.dumps(old))
    result = results.read(tmp_path)
    assert (result["status"], result["why"], result["diverged_at_step"]) == ("finished", "", None)
    assert result["metrics"] == old["metrics"]
    results.write(tmp_path, result)
    assert results.read(tmp_path)["metrics"] == old["metrics"]
    assert json.loads((tmp_path / "result.json").read_text())["schema"] == results.SCHEMA


def test_an_older_result_of_a_run_that_failed_keeps_its_reason(tmp_path):
    lost = {"status": "failed", "why": "failed: its worker died", "metrics": {}, "speed": {}}
    old = {name: value for name, value in (example("result") | lost).items() if name not in ("curves", "diverged_at_step")}
    (tmp_path / "result.json").write_text(json.dumps(old))
    result = results.read(tmp_path)
    assert (result["status"], result["why"], result["diverged_at_step"]) == ("failed", "its worker died", None)


def test_an_older_grid_has_the_fields_that_came_later_with_their_defaults(tmp_path):
    shutil.copyfile(SCHEMAS / "grid-1.json", tmp_path / "grid.json")
    manifest = grid.read_manifest(tmp_path)
    assert manifest["runs"] == example("grid")["runs"]
    assert set(manifest["preset"]) == {f.name for f in fields(Preset)}
    assert Preset(**manifest["preset"]) == replace(PRESETS["laptop"], optimizer="muon", warmup=200)


def test_a_result_of_this_schema_does_not_pass_for_an_older_one(tmp_path):
    """Schema 1 had no checksum: without this a flipped digit would take it away."""
    folder = tmp_path / FINISHED
    write_result(folder, metrics={"field_error": np.pi})
    write_grid(tmp_path, FINISHED)
    for path in (folder / "result.json", tmp_path / "grid.json"):
        text = path.read_text()
        assert '"schema": 2' in text
        path.write_text(text.replace('"schema": 2', '"schema": 1'))
    with pytest.raises(DamagedResult, match="has schema 1, which no version ever wrote"):
        results.read(folder)
    with pytest.raises(DamagedResult, match="has schema 1, which no version ever wrote"):
        grid.read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", "many"),
        ("seeds", [0, "1"]),
        ("systems", "wave"),
        ("learning_rate", [1.0]),
        ("optimizer", "sgd"),
        ("time_limit", "long"),
        ("gpus", 8),
    ],
)
def test_a_grid_with_a_preset_that_is_none_is_refused_by_name(tmp_path, name, value):
    results.write_sealed(tmp_path / "grid.json", example("grid") | {"schema": results.SCHEMA, "preset": example("grid")["preset"] | {name: value}})
    with pytest.raises(results.ResultsError, match=rf"grid\.json has a preset with {name} = .*which this version cannot read"):
        grid.read_manifest(tmp_path)


@pytest.mark.parametrize(("name", "value"), [("runs", FINISHED), ("runs", [FINISHED, 3]), ("preset", []), ("name", None)])
def test_a_grid_of_the_wrong_types_is_refused_by_name(tmp_path, name, value):
    results.write_sealed(tmp_path / "grid.json", example("grid") | {"schema": results.SCHEMA, name: value})
    with pytest.raises(DamagedResult, match=rf"grid\.json is not as it should be .*{name}"):
        grid.read_manifest(tmp_path)
