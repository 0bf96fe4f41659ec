"""A packed cell is what was packed, to the bit, or is refused by name."""

import json
import lzma
from pathlib import Path

import numpy as np
import pytest
import small_results
from small_results import BROKEN_OFF, FINISHED, FORGOTTEN, flip

from bench import doctor, grid, pack, packed, results, sealed
from bench.sealed import Damaged

NAME = "relativistic_particle-hnn.xz"
CURVES = {
    "time": np.arange(1, 101, dtype=np.float32),
    "energy_error": np.geomspace(1e-9, 3, 400, dtype=np.float32).reshape(4, 100),
    "interval_error": np.array([[0.1, np.inf, -0.0, np.nan]], np.float32),
    "training_step": np.array([10, 20], np.int64),
    "training_train_loss": np.array([-1.5, 2.0**-140], np.float32),
    "empty": np.zeros((0, 3), np.float32),
}
PARAMETERS = {"mlp/layers/0/kernel": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4), "scale": np.array(2.0, np.float32)}


def cell(*runs: str) -> packed.Cell:
    """Some runs, the first with parameters."""
    curves = {run: {name: values for name, values in CURVES.items() if i == 0 or name != "empty"} for i, run in enumerate(runs)}
    made = {"commit": None, "dirty": None, "device": "cpu", "platform": "Linux", "versions": {"jax": "0", "python": "3"}}
    content = {"schema": results.SCHEMA, "why": "", "diverged_at_step": None, "system": small_results.SYSTEM, "model": "hnn", "status": "finished"}
    content |= {"configuration": {"recording": {"starts": 4}}, "metrics": {"valid_time": 0.1, "energy_error_max": np.inf}, "speed": {}}
    content |= {"provenance": {"training_code": "t", "evaluation_code": "e"} | made}

    def of(i: int, run: str) -> dict:
        return sealed.stamped({**content, "run": run, "seed": i, "curves": {"file": results.CURVES, "sha256": results.digest(curves[run])}})

    return packed.Cell({run: of(i, run) for i, run in enumerate(runs)}, curves, {runs[0]: PARAMETERS})


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "runs" / NAME
    packed.write(path, cell(FINISHED, BROKEN_OFF))
    return path


def same(one: dict, other: dict) -> None:
    assert list(one) == list(other)
    for name, values in one.items():
        assert (values.dtype, values.shape, values.tobytes()) == (other[name].dtype, other[name].shape, other[name].tobytes()), name


def test_a_cell_comes_back_to_the_bit(file):
    there, back = cell(FINISHED, BROKEN_OFF), packed.read(file)
    assert back.results == there.results
    for run in (FINISHED, BROKEN_OFF):
        same(dict(sorted(there.curves[run].items())), back.curves[run])
    same(PARAMETERS, back.parameters[FINISHED])
    assert set(back.parameters) == {FINISHED}
    assert packed.encode(back) == file.read_bytes()


def test_a_run_of_it_is_read_as_from_a_folder(file):
    run = file.with_name(FINISHED)
    result = results.read(run)
    assert result["metrics"] == {"valid_time": 0.1, "energy_error_max": float("inf")}
    curves = results.curves(run, result)
    same(dict(sorted(CURVES.items())), curves)
    curves["time"][:] = 0  # a copy: who changes it changes it for nobody else
    result["metrics"].clear()
    assert results.curves(run, results.read(run))["time"][0] == 1
    assert results.exists(run)
    assert not results.exists(file.with_name(FORGOTTEN))
    with pytest.raises(results.ResultsError, match=r"there is no .*result\.json"):
        results.read(file.with_name(FORGOTTEN))


def test_a_folder_of_the_same_run_is_newer(file):
    run = file.with_name(FINISHED)
    small_results.write_result(run, metrics={"valid_time": 7.0})
    assert results.read(run)["metrics"] == {"valid_time": 7.0}
    assert set(results.curves(run, results.read(run))) == {"energy_error"}


def test_no_flipped_byte_is_believed(file):
    whole, before = file.read_bytes(), cell(FINISHED, BROKEN_OFF)
    found = 0
    for at in range(len(whole)):
        content = bytearray(whole)
        content[at] ^= 0xFF
        try:
            there = packed.decode(file, bytes(content))
        except (Damaged, ValueError, lzma.LZMAError):
            found += 1
        else:  # a byte that means nothing
            assert there.results == before.results
            assert packed.encode(there) == whole
    assert found > 0.99 * len(whole)


@pytest.mark.parametrize("how", ["flipped", "cut", "longer", "empty", "rubbish", "folder", "not ours", "huge"])
def test_what_is_damaged_is_told_as_damaged_and_named(file, how, monkeypatch):
    whole = file.read_bytes()
    if how == "flipped":
        flip(file, len(whole) // 2)
    elif how == "folder":
        file.unlink()
        file.mkdir()
    elif how == "huge":
        monkeypatch.setattr(packed, "LIMIT", len(whole) + 10)
    else:
        made = {"cut": whole[:-20], "longer": whole + b"\0", "empty": b"", "rubbish": b"\x00\xff" * 99, "not ours": lzma.compress(b"[]\n")}
        file.write_bytes(made[how])
    packed._read.cache_clear()
    assert results.exists(file.with_name(FINISHED))  # nobody knows what was in it
    for read in (results.read, lambda run: results.curves(run, {"curves": {"sha256": ""}})):
        with pytest.raises(results.DamagedResult, match=NAME):
            read(file.with_name(FINISHED))


def forged(file: Path, change) -> Path:
    """The file with another first line, stamped anew, as someone might who knows how."""
    line, _, data = lzma.decompress(file.read_bytes()).partition(b"\n")
    head = json.loads(line)
    change(head)
    line = json.dumps(sealed.stamped({name: value for name, value in head.items() if name != "sha256"})).encode()
    file.write_bytes(lzma.compress(line + b"\n" + data, check=lzma.CHECK_SHA256))
    return file.with_name(FINISHED)


FORGERIES = {
    "another result": lambda head: head["results"][0]["metrics"].update(valid_time=9.0),
    "a type that is no number": lambda head: head["arrays"][0].__setitem__(2, "|O"),
    "another type": lambda head: next(a for a in head["arrays"] if a[1] == "time").__setitem__(2, "<i4"),
    "a larger shape": lambda head: head["arrays"][-1].__setitem__(3, [[10**9], None]),
    "a shape less": lambda head: head["arrays"][0].__setitem__(3, [[100]]),
    "an array less": lambda head: head["arrays"].pop(),
    "another kind": lambda head: head["arrays"][0].__setitem__(0, "results"),
    "no list": lambda head: head.update(arrays=3),
    "a newer schema": lambda head: head.update(schema=2),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_index_is_refused(file, forgery):
    run = forged(file, FORGERIES[forgery])
    with pytest.raises(results.DamagedResult, match=NAME):
        results.curves(run, results.read(run))


def test_a_run_under_another_name_is_damaged(file, tmp_path):
    small_results.write_grid(tmp_path, FINISHED, BROKEN_OFF)
    rows, holes = grid.read_all(tmp_path)
    assert ([row["run"] for row in rows], holes) == ([FINISHED, BROKEN_OFF], {})
    flip(file, 200)
    rows, holes = grid.read_all(tmp_path)
    assert rows == []
    assert all(why.startswith("damaged") and NAME in why for why in holes.values())


def test_files_beside_are_no_cells(file):
    for name in ("notes.txt", "notes.xz", ".wave-lnn.xz.0a1b2c3d.partial"):
        file.with_name(name).write_bytes(b"mine")
    assert packed.read(file).results
    assert packed.is_packed(file.parents[1])
    file.unlink()
    assert not packed.is_packed(file.parents[1])


def test_the_doctor_names_a_damaged_file_once_and_clean_leaves_packed_files_alone(file, tmp_path):
    from bench import clean

    for region in ("reference", "latest"):
        folder = tmp_path / "results" / region / "packed"
        small_results.write_grid(folder, FINISHED, BROKEN_OFF)
        packed.write(folder / "runs" / NAME, packed.read(file))
    assert not clean.orphans(tmp_path / "results")
    assert [finding.sign for finding in doctor.result_folders(tmp_path / "results")] == [doctor.FINE] * 2
    flip(tmp_path / "results" / "reference" / "packed" / "runs" / NAME, 300)
    (wrong,) = [finding for finding in doctor.result_folders(tmp_path / "results") if finding.sign == doctor.WRONG]
    assert NAME in wrong.found
    assert "git restore" in wrong.todo


# what is kept ---------------------------------------------------------------------------------------------------------


def test_rounding_keeps_a_thousandth_and_what_is_no_number():
    random = np.random.default_rng(0)
    values = (10 ** random.uniform(-30, 30, 10_000) * random.choice([-1, 1], 10_000)).astype(np.float32)
    error = np.abs(pack.rounded(values).astype(float) / values.astype(float) - 1)
    assert 0.9 * 2.0**-10 < error.max() <= 2.0**-10
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan], np.float32)
    assert pack.rounded(special).tobytes() == special.tobytes()
    assert np.isinf(pack.rounded(np.array([np.finfo(np.float32).max], np.float32)))  # to the nearest


@pytest.mark.parametrize(("decides", "drawn"), [(True, True), (True, False), (False, False)])
def test_what_is_read_is_kept_to_the_last_bit_and_keeping_twice_changes_nothing(decides, drawn):
    random = np.random.default_rng(1)
    curves = {name: 10 ** random.uniform(-9, 1, (5, 300)).astype(np.float32) for name in pack.IN_TIME}
    curves |= {"time": np.arange(300, dtype=np.float32) + 1, "prediction": np.ones((7, 2, 1), np.float32), "prediction_time": np.ones(7, np.float32)}
    names = "interval_error", "rollout_error_of_start", "training_train_loss"
    curves |= {name: random.uniform(0, 1, 50).astype(np.float32) for name in names}
    once = pack.kept(curves, decides, drawn)
    same(once, pack.kept(once, decides, drawn))
    for at in (*pack.TIMES, 300.0):
        i, j = (np.abs(c["time"] - at).argmin() for c in (curves, once))
        assert curves["time"][i] == once["time"][j]
        np.testing.assert_array_equal(curves["energy_error"][:, i], once["energy_error"][:, j])
    assert len(once["time"]) == once["energy_error"].shape[1]
    assert len(once["rollout_time"]) == once["rollout_error"].shape[1]
    assert (len(once["time"]) == 300) == drawn
    assert {len(once["time"]), len(once["rollout_time"])} <= {300, *range(10, 15)}
    assert set(once["rollout_time"]) <= set(curves["time"])
    assert ("prediction" in once) == drawn
    for name in names:
        assert (once[name].tobytes() == curves[name].tobytes()) == (decides or name != "interval_error")
        np.testing.assert_allclose(once[name], curves[name], rtol=1e-3)
    for name, time in zip(pack.IN_TIME, ("time", "rollout_time"), strict=True):
        np.testing.assert_allclose(once[name], curves[name][:, np.isin(curves["time"], once[time])], rtol=1e-3)


def test_every_time_that_something_reads_is_kept():
    """Of a curve whose errors name their times, each reader finds the time that it asked for."""
    from bench.claims import EARLY, HORIZON
    from bench.literature import FIGURES

    time = np.arange(1, 1001, dtype=np.float32)
    curves = pack.kept({"time": time, "energy_error": np.tile(time + np.float32(1 / 1024), (3, 1))}, False, False)
    read = [figure for figure in FIGURES if figure.read.__qualname__.startswith("_energy_at")]
    assert len(read) >= 4
    found = {float(figure.read({}, curves)[0]) for figure in read}
    assert found == {20.0 + 1 / 1024, 100.0 + 1 / 1024}
    assert {EARLY, HORIZON} <= set(pack.TIMES)
