"""The gate says plainly what is not as it was, and passes nothing silently."""

import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

import models
from bench import cases, gate, history, identity, speed, times
from systems._rows import UnknownName

BASE = {"training, a on b": {"flops": 1000, "equations": 10, "temporary_bytes": 5000}, "rollout, a on b": {"flops": 70}}


def changed(**figures):
    return {**BASE, "training, a on b": {**BASE["training, a on b"], **figures}}


def test_equal_figures_differ_in_nothing():
    assert gate.differences(BASE, BASE) == []


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (changed(flops=1001), "flops is 1,001, the baseline has 1,000"),
        (changed(equations=9), "equations is 9"),
        (changed(temporary_bytes=5600), "temporary_bytes is 5,600"),
        (changed(flops=math.nan), "flops is nan"),
        (changed(more=1), "more is 1, the baseline has None"),
        ({"rollout, a on b": {"flops": 70}}, "training, a on b: in the baseline, but no longer there"),
        ({**BASE, "training, z on b": {}}, "training, z on b: new"),
        ({}, "no benchmark ran"),
    ],
)
def test_whatever_differs_is_named(found, told):
    (line,) = gate.differences(BASE, found)
    assert told in line


def test_planned_memory_may_differ_a_little_and_on_another_machine_a_lot():
    assert gate.differences(BASE, changed(temporary_bytes=5400)) == []
    assert gate.differences(BASE, changed(temporary_bytes=9000), same_machine=False) == []


ERRORS = {"lnn on ring": {"field_error": 0.1, "rollout_error": 0.2}}


@pytest.mark.parametrize("field_error", [0.05, 0.2, math.nan, math.inf])
def test_an_error_outside_its_interval_is_named(field_error):
    (line,) = gate.outside(ERRORS, {"lnn on ring": {"field_error": field_error, "rollout_error": 0.2}})
    assert "lnn on ring: field_error" in line


def test_an_error_within_its_interval_is_not_and_a_cell_must_be_there():
    assert gate.outside(ERRORS, {"lnn on ring": {"field_error": 0.11, "rollout_error": 0.19}}) == []
    assert gate.outside(ERRORS, {}) == ["lnn on ring: no errors of the smoke grid to compare"]
    assert "not in the baseline" in gate.outside({}, ERRORS)[0]
    assert "rollout_error" in gate.outside(ERRORS, {"lnn on ring": {"field_error": 0.1}})[0]


class Clock:
    """Two checkouts whose cases take what it says."""

    def __init__(self, monkeypatch, *readings):
        self.readings, self.asked = list(readings), []
        monkeypatch.setattr(times, "interleaved", self)

    def __call__(self, base, head, names, cache, rounds):
        self.asked.append(names)
        return {name: times.Times(1.0, self.readings[len(self.asked) - 1][name]) for name in names}


def test_a_slow_reading_is_measured_again_before_it_is_believed(monkeypatch):
    clock = Clock(monkeypatch, {"a": 1.0, "b": 1.4, "c": 1.4}, {"b": 1.1, "c": 1.3})
    compared, late = times.slower(Path("x"), Path("y"), ("a", "b", "c"), Path("z"))
    assert clock.asked == [("a", "b", "c"), ("b", "c")]
    assert compared["b"].ratio == 1.1
    assert len(late) == 1
    assert late[0].startswith("c: 1.3 s, +30%")


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """The gate in an empty folder, its measurements given."""
    monkeypatch.setattr(gate, "BASELINE", tmp_path / "perf.json")
    monkeypatch.setattr(history, "HISTORY", tmp_path / "history.csv")
    monkeypatch.setattr(gate, "measured", lambda cache, only="": (BASE, dict.fromkeys(BASE, 0.5)))
    monkeypatch.setattr(gate, "errors", lambda cache, console: ERRORS)
    monkeypatch.setattr(gate, "OUTPUT", tmp_path / "output")
    monkeypatch.setattr(gate.identity, "ROOT", tmp_path)  # where there is no git
    return tmp_path


def said(function, *arguments):
    text = StringIO()
    code = function(Path("cache"), Console(file=text, width=200), *arguments)
    return code, text.getvalue()


def test_a_missing_baseline_is_no_pass(alone):
    with pytest.raises(gate.GateError, match="make perf-baseline"):
        gate.check(Path("cache"), Console(quiet=True), "HEAD")


def test_a_baseline_of_another_jax_is_no_pass(alone):
    gate.BASELINE.write_text(json.dumps({"jax": {"0.0.1": {}}}))
    with pytest.raises(gate.GateError, match=r"knows jax 0\.0\.1, not"):
        gate.check(Path("cache"), Console(quiet=True), "HEAD")


def test_the_committed_baseline_knows_every_jax_of_the_lock():
    lock = (identity.ROOT / "requirements.lock").read_text(encoding="utf-8")
    wanted = set(re.findall(r"^jax==(\S+)", lock, re.MULTILINE))
    assert len(wanted) == 2
    assert wanted == json.loads((identity.ROOT / gate.BASELINE).read_text(encoding="utf-8"))["jax"].keys()


def test_an_accepted_baseline_passes_and_a_change_does_not_until_it_is_accepted(alone, monkeypatch):
    assert said(gate.baseline)[0] == 0
    code, text = said(gate.check, None)
    assert code == 0
    assert "Times not compared: there is no commit before this one" in text
    monkeypatch.setattr(gate, "measured", lambda cache, only="": (changed(flops=2000), dict.fromkeys(BASE, 0.6)))
    code, text = said(gate.check, None)
    assert code == 1
    assert "training, a on b: flops is 2,000, the baseline has 1,000 (+100.0%)" in text
    code, text = said(gate.baseline)
    assert "flops is 2,000" in text
    assert said(gate.check, None)[0] == 0
    lines = history.HISTORY.read_text().splitlines()
    assert lines[0] == ",".join(history.COLUMNS)
    assert len(lines) == 1 + 2 * 6  # two baselines, four figures and two times each
    assert (alone / "history.svg").stat().st_size > 1000


def test_the_baseline_of_one_jax_leaves_that_of_another_as_it_is(alone, monkeypatch):
    """As where two machines, or two Pythons, make one after the other."""
    here, machine = identity.versions(), gate.machine()
    said(gate.baseline)
    monkeypatch.setattr(gate.identity, "versions", lambda: {**here, "jax": "0.0.1"})
    monkeypatch.setattr(gate, "machine", lambda: "another machine")
    monkeypatch.setattr(gate, "measured", lambda cache, only="": (changed(flops=2000), dict.fromkeys(BASE, 0.6)))
    assert "flops is" not in said(gate.baseline)[1]
    assert said(gate.check, None)[0] == 0
    versions = json.loads(gate.BASELINE.read_text())["jax"]
    assert {version: (entry["machine"], entry["figures"]) for version, entry in versions.items()} == {
        here["jax"]: (machine, BASE),
        "0.0.1": ("another machine", changed(flops=2000)),
    }
    assert "jax 0.0.1" in (drawn := (alone / "history.svg").read_text())
    assert f"jax {here['jax']}" in drawn


def test_another_commit_that_is_asked_for_must_be_there(alone):
    said(gate.baseline)
    with pytest.raises(gate.GateError, match="no commit nonsense"):
        gate.check(Path("cache"), Console(quiet=True), "nonsense")


@pytest.mark.parametrize("content", ["", "{}", "[]", "{"])
def test_a_damaged_baseline_is_named(alone, content):
    gate.BASELINE.write_text(content)
    with pytest.raises(gate.GateError, match=r"perf\.json is damaged"):
        gate.check(Path("cache"), Console(quiet=True), None)


def test_a_damaged_history_is_named_before_a_baseline_is_accepted(alone):
    history.HISTORY.write_text("nonsense\n")
    with pytest.raises(gate.GateError, match=r"history\.csv has other columns"):
        gate.baseline(Path("cache"), Console(quiet=True))
    assert not gate.BASELINE.exists()


def test_nothing_that_is_not_finite_is_accepted(alone, monkeypatch):
    monkeypatch.setattr(gate, "errors", lambda cache, console: {"lnn on ring": {"field_error": math.inf}})
    with pytest.raises(gate.GateError, match="not finite"):
        gate.baseline(Path("cache"), Console(quiet=True))


def test_two_gates_do_not_work_at_once(alone):
    said(gate.baseline)
    with gate.alone(), pytest.raises(gate.GateError, match="another gate"):
        gate.check(Path("cache"), Console(quiet=True), None)


def test_a_name_that_no_benchmark_has_is_told_the_choices():
    with pytest.raises(gate.GateError, match=r"'nonsense'.*training, a on b"):
        gate.chosen(BASE, "nonsense")


def test_what_dies_or_fails_in_a_side_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(times, "OUTPUT", tmp_path)
    with times.Side("head", identity.ROOT, tmp_path / "cache") as side:
        assert side.ask("names")["names"] == list(cases.names())
        with pytest.raises(gate.GateError, match=r"of the head fail: UnknownName.*head\.log"):
            side.ask("time nonsense")
        side.process.kill()
        side.process.wait()
        with pytest.raises(gate.GateError, match="its process died"):
            side.ask("names")


def test_a_baseline_of_another_machine_is_said(alone, monkeypatch):
    said(gate.baseline)
    monkeypatch.setattr(gate, "machine", lambda: "abacus, 1 core")
    assert "made on another machine" in said(gate.check, None)[1]


def test_worse_errors_do_not_pass(alone, monkeypatch):
    said(gate.baseline)
    monkeypatch.setattr(gate, "errors", lambda cache, console: {"lnn on ring": {"field_error": 0.3, "rollout_error": 0.2}})
    code, text = said(gate.check, None)
    assert code == 1
    assert "field_error is 0.3, outside 0.08 to 0.125" in text


def test_benchmarks_refuse_to_share_the_machine():
    command = [sys.executable, "-m", "pytest", "tests/perf", "-n", "2"]
    done = subprocess.run(command, cwd=identity.ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert "add -n 0" in done.stderr


def test_every_row_of_make_bench_is_watched_and_an_unknown_name_is_told_the_choices():
    assert len(set(cases.names())) == len(cases.names()) == 2 * 21 + 5
    with pytest.raises(UnknownName, match="training, lnn on double_pendulum"):
        cases.build("training, lnn on nothing")


def test_a_wider_model_is_seen_in_the_figures_of_its_case(monkeypatch):
    name = "training, mlp on relativistic_particle"
    usual = cases.build(name).figures
    monkeypatch.setattr(cases.models, "get", lambda name, get=models.get: cases.with_width(get(name), 128))
    cases._cell.cache_clear()
    wide = cases.build(name).figures
    cases._cell.cache_clear()
    assert usual["programs_of_more_seeds"] == 0
    assert wide["flops"] > 3 * usual["flops"]
    assert wide["parameters"] > 3 * usual["parameters"]


def test_a_speed_table_walks_along_one_size_at_a_time_and_wrong_sizes_are_refused():
    rows = speed.variants(speed.Options(models=("mlp", "lnn"), widths=(32,), batches=(64,), sites=(256,)))
    assert len(rows) == 6 * 3 + 2
    assert all(sum(size is not None for size in (r.width, r.batch, r.sites)) <= (2 if r.sites else 1) for r in rows)
    with pytest.raises(ValueError, match="widths is 0"):
        replace(speed.Options(), widths=(0,))
    with pytest.raises(UnknownName, match="'lnnn'"):
        replace(speed.Options(), models=("lnnn",))
