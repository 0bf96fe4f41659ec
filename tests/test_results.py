"""Results are whole or absent, and refused by name when they are not what was written."""

import hashlib
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from small_results import FINISHED, write_grid, write_result

from bench import grid, results, sealed
from bench.results import DamagedResult

METRICS = {"energy_error_max": float("inf"), "own_energy_drift": float("nan"), "field_error": 0.1 + 0.2}
HUGE = 2**20  # bytes


@pytest.fixture
def run(tmp_path):
    """The folder of a finished run."""
    folder = tmp_path / "runs" / FINISHED
    write_result(folder, metrics=METRICS)
    return folder


def content(run: Path) -> dict:
    return json.loads((run / "result.json").read_text())


def forge(folder: Path, **changes) -> None:
    """Writes other content with a checksum that fits, as someone might who knows how."""
    (folder / "result.json").write_text(json.dumps(sealed.stamped(content(folder) | changes)))


def test_numbers_come_back_exactly_infinities_too(run):
    result = results.read(run)
    assert result["metrics"]["energy_error_max"] == float("inf")
    assert np.isnan(result["metrics"]["own_energy_drift"])
    assert result["metrics"]["field_error"] == 0.1 + 0.2
    np.testing.assert_array_equal(results.curves(run, result)["energy_error"], np.zeros(3))
    json.loads((run / "result.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_the_same_content_is_the_same_bytes(run, tmp_path):
    again = tmp_path / "elsewhere" / FINISHED
    write_result(again, metrics=METRICS)
    for file in ("result.json", "curves.npz"):
        assert (run / file).read_bytes() == (again / file).read_bytes()


def leaves(value, path=()):
    """(path, leaf) of everything in a JSON document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [leaf for name, item in items for leaf in leaves(item, (*path, name))]
    return found if isinstance(value, dict | list) and value else [(path, value)]


def test_any_value_that_was_changed_is_found_by_the_checksum(run):
    whole = content(run)
    paths = [path for path, _ in leaves(whole)]
    assert ("metrics", "field_error") in paths
    assert ("provenance", "versions", "jax") in paths
    for path in paths:
        changed = json.loads(json.dumps(whole))
        place = changed
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = "other" if path != ("schema",) else 1  # other schemas are refused as such
        (run / "result.json").write_text(json.dumps(changed))
        with pytest.raises(DamagedResult, match=r"result\.json.*`bench run` makes it again"):
            results.read(run)


def test_values_that_were_added_or_removed_are_found_by_the_checksum(run):
    whole = content(run)
    for changed in (whole | {"more": 1}, {name: value for name, value in whole.items() if name != "why"}):
        (run / "result.json").write_text(json.dumps(changed))
        with pytest.raises(DamagedResult, match="checksum does not fit"):
            results.read(run)


def test_layout_is_no_part_of_the_checksum(run):
    before = results.read(run)
    (run / "result.json").write_text(json.dumps(content(run), sort_keys=True))
    assert results.read(run)["configuration"] == before["configuration"]


@pytest.mark.parametrize("schema", [3, 99, 10**30])
def test_a_newer_schema_asks_for_an_update_and_is_no_damage(run, schema):
    forge(run, schema=schema)
    with pytest.raises(results.ResultsError, match=f"has schema {schema}, this version reads up to 2: update the code") as error:
        results.read(run)
    assert not isinstance(error.value, DamagedResult)


NO_RESULTS = {
    '{"schema": 0}': "has schema 0, which no version ever wrote",
    '{"schema": true}': "has schema True, which no version ever wrote",
    '{"schema": "2"}': "has schema '2', which no version ever wrote",
    '{"schema": [2]}': "which no version ever wrote",
    "{}": "has schema None, which no version ever wrote",
    '{"schema": 2}': "its checksum does not fit",
    '{"schema": 1, "run": "r"}': "is not as it should be .*system",
    "[]": "holds no dictionary",
    "null": "holds no dictionary",
    '{"schema": 2, "ru': "cannot be read",
    "": "cannot be read",
    '{"schema": 2, "metrics": NaN}': "cannot be read .NaN is no JSON",
    '{"schema": 2, "metrics": -Infinity}': "cannot be read .-Infinity is no JSON",
    "[" * 100_000: "cannot be read",
    '{"schema":' * 100_000: "cannot be read",
    '{"schema": ' + "9" * 5000 + "}": "cannot be read",
    '{"schema": 2, "metrics": 1e999}': r"result\.json",
}


@pytest.mark.parametrize("text", NO_RESULTS, ids=lambda text: text[:30])
def test_what_is_no_result_is_refused_by_name(run, text):
    (run / "result.json").write_text(text)
    with pytest.raises(DamagedResult, match=NO_RESULTS[text]) as error:
        results.read(run)
    assert str(run / "result.json") in str(error.value)


def test_nesting_of_any_depth_is_refused_by_name(run):
    for depth in (*range(850, 1000), 10**5):
        (run / "result.json").write_text('{"schema": 2, "x": ' + "[" * depth + "]" * depth + "}")
        with pytest.raises(DamagedResult):
            results.read(run)


def test_what_is_not_text_is_refused_by_name(run):
    (run / "result.json").write_bytes(bytes(range(256)))
    with pytest.raises(DamagedResult, match=r"result\.json cannot be read"):
        results.read(run)


def test_a_result_that_is_not_there_says_what_to_do(tmp_path):
    with pytest.raises(results.ResultsError, match=r"there is no .*result\.json: run `python -m bench run` first"):
        results.read(tmp_path)


def test_a_file_too_large_for_a_result_is_not_even_read(run, monkeypatch):
    monkeypatch.setattr(sealed, "JSON_LIMIT", HUGE)
    (run / "result.json").write_text(json.dumps({"schema": 2, "x": " " * HUGE}))
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(DamagedResult, match=r"result\.json cannot be read \(it has more than 1 MiB\)"):
        results.read(run)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", "0"),
        ("metrics", [1.0]),
        ("metrics", {"field_error": "small"}),
        ("metrics", {"field_error": 1.0, "rollout_error": None}),
        ("speed", {"train_seconds": [1.0]}),
        ("status", "succeeded"),
        ("why", None),
        ("diverged_at_step", "3"),
        ("configuration", "laptop"),
        ("provenance", 7),
        ("curves", {"file": "../../curves.npz", "sha256": "0"}),
        ("curves", {"file": "curves.npz"}),
        ("parameters", 1),
        ("system", None),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_name(run, name, value):
    forge(run, **{name: value})
    with pytest.raises(DamagedResult, match=rf"result\.json is not as it should be .*{name}"):
        results.read(run)


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", f"{FINISHED}/../..", FINISHED.upper(), "", f"{FINISHED}\n"])
def test_a_run_whose_name_leads_elsewhere_is_refused(run, tmp_path, name):
    forge(run, run=name)
    with pytest.raises(DamagedResult, match=r"result\.json names a run .*which no run is called"):
        results.read(run)
    write_grid(tmp_path, FINISHED, name)
    with pytest.raises(DamagedResult, match=r"grid\.json names a run .*which no run is called"):
        grid.read_manifest(tmp_path)


@pytest.mark.parametrize("part", ["training", "evaluation", "rows", "commit", "versions", "platform"])
def test_a_result_that_does_not_say_where_it_comes_from_is_refused(run, part):
    forge(run, provenance={name: value for name, value in content(run)["provenance"].items() if name != part})
    with pytest.raises(DamagedResult, match=r"result\.json lacks"):
        results.read(run)


def test_a_damaged_file_set_aside_keeps_its_bytes(run):
    (run / "result.json").write_bytes(b"rubbish")
    assert results.set_aside(run / "result.json") == run / "result.json.damaged"
    assert (run / "result.json.damaged").read_bytes() == b"rubbish"
    assert not (run / "result.json").exists()


@pytest.mark.parametrize("damage", [b"PK", b"", None])
def test_curves_that_are_damaged_or_missing_are_refused(run, damage):
    result = results.read(run)
    (run / "curves.npz").unlink()
    if damage is not None:
        (run / "curves.npz").write_bytes(damage)
    for read in (lambda: results.read(run), lambda: results.curves(run, result)):
        with pytest.raises(DamagedResult, match=r"curves\.npz is damaged or missing"):
            read()


def test_curves_too_large_to_be_ours_are_not_read(run, monkeypatch):
    monkeypatch.setattr(results, "CURVES_LIMIT", 10)
    with pytest.raises(DamagedResult, match=r"curves\.npz is damaged or missing"):
        results.read(run)


def with_curves(run: Path, archive: bytes) -> dict:
    """The result of a run whose curves are other bytes, with the right checksum."""
    (run / "curves.npz").write_bytes(archive)
    forge(run, curves={"file": "curves.npz", "sha256": hashlib.sha256(archive).hexdigest()})
    return results.read(run)


def test_curves_that_unpack_to_more_than_their_limit_are_not_unpacked(run, monkeypatch):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("energy_error.npy", bytes(HUGE + 1))
    assert len(archive.getvalue()) < HUGE / 100
    monkeypatch.setattr(results, "CURVES_LIMIT", HUGE)
    result = with_curves(run, archive.getvalue())
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("it was unpacked"))
    with pytest.raises(DamagedResult, match=r"curves\.npz holds no curves \(it unpacks to more than 1 MiB\)"):
        results.curves(run, result)


def test_curves_that_hold_programs_are_not_run(run):
    archive = io.BytesIO()
    np.savez(archive, energy_error=np.array([Path], dtype=object))
    with pytest.raises(DamagedResult, match="holds no curves"):
        results.curves(run, with_curves(run, archive.getvalue()))
    with pytest.raises(DamagedResult, match="holds no curves"):
        results.curves(run, with_curves(run, b"no archive"))


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    results.write_atomically(path, b"old")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        results.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
