"""`bench speed`: a process of its own, tables and figure from what it sends, and requests that are wrong."""

import pandas as pd
import pytest

from bench import pool, speed
from bench.cli import main

COSTS = dict.fromkeys(speed.COLUMNS, 2.0) | {"matmul_share": 0.5, "optimizer_share": 0.25, "parameters": 10, "device": "cpu"}


def row(model, system="double_pendulum", width=None, batch=None, sites=None, **costs):
    return {"system": system, "model": model, "width": width, "batch": batch, "sites": sites, **COSTS, **costs}


def test_what_a_process_of_its_own_yields_arrives_and_what_goes_wrong_there_is_told(tmp_path):
    items = [("value", 1), ("value", {"a": 2.0})]
    assert list(pool.alone("builtins", "iter", (items,), tmp_path, tmp_path / "log")) == items
    with pytest.raises(pool.Failed, match=r"open: FileNotFoundError.*log"):
        list(pool.alone("builtins", "open", (str(tmp_path / "nothing"),), tmp_path, tmp_path / "log"))
    assert "Traceback" in (tmp_path / "log").read_text()


def test_tables_hold_every_variant_under_the_size_that_it_changes(tmp_path):
    rows = [row("mlp"), row("mlp", width=32), row("mlp", width=128), row("mlp", batch=512), row("lnn", "wave", batch=256, sites=256)]
    rows += [row("lnn", "wave")]
    speed.write(rows, [{"what": "theirs over ours", "value": 2.345, "unit": "x"}], tmp_path)
    text = (tmp_path / "speed.md").read_text()
    assert "| theirs over ours | 2.3 x |" in text
    parts = dict(part.split("\n", 1) for part in text.split("\n## ")[1:])
    assert parts["Every model on every system"].count("\n| mlp") + parts["Every model on every system"].count("\n| lnn") == 2
    assert "| mlp on double_pendulum | 32 |" in parts["Against width"]
    assert "| mlp on double_pendulum | 512 |" in parts["Against batch"]
    assert "| lnn on wave | 256 |" in parts["Against sites of the ring"]
    assert len(pd.read_csv(tmp_path / "speed.csv")) == len(rows)
    assert (tmp_path / "speed.svg").stat().st_size > 1000


def test_nothing_measured_leaves_no_figure(tmp_path):
    speed.write([], [], tmp_path)
    assert not (tmp_path / "speed.svg").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["speed", "--widths", "0"], "widths is 0"),
        (["speed", "--models", "nonsense"], "'nonsense'"),
        (["speed", "--sites", "2"], "sites is 2: give whole numbers from 3"),
        (["show", "nothing"], "results/latest/laptop"),
        (["perf"], "check"),
        (["perf", "improve"], "improve"),
        (["perf", "check", "--parts", "everything"], "everything"),
        (["perf", "compare", "--base", "no-such-commit"], "no commit no-such-commit"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_code_2(arguments, told, capsys):
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert told in said
