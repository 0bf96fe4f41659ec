"""Files are whole or absent, and refused when they are not what they say."""

import json

import numpy as np
import pytest

from bench import results

RESULT = {"run": "r", "system": "wave", "model": "lnn", "seed": 0, "status": "finished", "configuration": {}, "provenance": {}}
NUMBERS = {"metrics": {"energy_error_max": float("inf"), "own_energy_drift": float("nan"), "field_error": 0.1 + 0.2}, "speed": {}}


def test_numbers_come_back_exactly_infinities_too(tmp_path):
    results.write(tmp_path, RESULT | NUMBERS, {"time": np.arange(3.0)})
    result = results.read(tmp_path)
    assert result["metrics"]["energy_error_max"] == float("inf")
    assert np.isnan(result["metrics"]["own_energy_drift"])
    assert result["metrics"]["field_error"] == 0.1 + 0.2
    np.testing.assert_array_equal(results.curves(tmp_path, result)["time"], np.arange(3.0))
    json.loads((tmp_path / "result.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_the_same_content_is_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        results.write(tmp_path / name, RESULT | NUMBERS, {"time": np.arange(3.0)})
    for file in ("result.json", "curves.npz"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"schema": 99}', "has schema 99"),
        ('{"schema": 1, "run": "r"}', "lacks system"),
        ("[]", "not a result"),
        ('{"schema": 1, "ru', "cannot be read"),
        ("", "cannot be read"),
    ],
)
def test_what_is_no_result_is_refused_by_name(tmp_path, content, says):
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(results.ResultsError, match=says) as error:
        results.read(tmp_path)
    assert str(tmp_path / "result.json") in str(error.value)


def test_damaged_curves_are_refused(tmp_path):
    results.write(tmp_path, RESULT | NUMBERS, {"time": np.arange(3.0)})
    (tmp_path / "curves.npz").write_bytes(b"PK")
    with pytest.raises(results.ResultsError, match="damaged"):
        results.curves(tmp_path, results.read(tmp_path))


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    results.write_atomically(path, b"old")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        results.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
