"""A row edit that leaves all bits as they were is recorded, and names follow; one that doesn't is not."""

import json
import subprocess

import pytest
from rich.console import Console

from bench import accept, cli, golden, identity

ROWS = {"models/lnn": ("old l", "old l"), "models/hnn": ("old h", "older h"), "models/mlp": ("m", "m"), "systems/gone": ("g", "g")}
NOW = {"models/lnn": ("new l", "new l"), "models/hnn": ("new h", "new h"), "models/mlp": ("m", "m"), "systems/new": ("n", "n")}


@pytest.fixture
def checkouts(tmp_path, monkeypatch):
    """Two folders that answer as `bench.golden` would: the bits of `models/hnn` are the same, those of `models/lnn` are not."""
    for name in ("base", "head"):
        (tmp_path / name / "bench").mkdir(parents=True)
        (tmp_path / name / "bench" / "golden.py").touch()

    def ask(root, arguments, cache, flags=""):
        known = ROWS if root.name == "base" else NOW
        if arguments == ["rows"]:
            recorded = json.loads(accept._accepted(root).read_text()) if accept._accepted(root).exists() else {}
            yield "rows", {name: {"content": content, "called": recorded.get(content, called)} for name, (content, called) in known.items()}
        else:
            yield from ((name, "bits" if name == "models/hnn" else f"bits of {root.name}") for name in arguments)

    monkeypatch.setattr(accept, "ask", ask)
    return tmp_path / "base", tmp_path / "head"


def do(checkouts, tmp_path):
    console = Console(record=True, width=200, file=open("/dev/null", "w"))  # noqa: SIM115
    return accept.rows(*checkouts, tmp_path / "cache", console), console.export_text()


def test_what_gives_the_same_bits_is_called_as_before_and_what_does_not_is_said(checkouts, tmp_path):
    code, said = do(checkouts, tmp_path)
    assert code == 1
    assert "models/hnn: the same bits: runs keep their names" in said
    assert "models/lnn: its numbers changed, so nothing is recorded" in said
    assert "models/mlp" not in said
    assert "systems" not in said
    assert json.loads(accept._accepted(checkouts[1]).read_text()) == {"new h": "older h"}
    assert not accept._accepted(checkouts[0]).exists()


def test_what_was_recorded_before_stays_and_is_not_tried_again(checkouts, tmp_path):
    accept._accepted(checkouts[1]).parent.mkdir(parents=True)
    accept._accepted(checkouts[1]).write_text('{"another": "kept"}')
    do(checkouts, tmp_path)
    assert json.loads(accept._accepted(checkouts[1]).read_text()) == {"another": "kept", "new h": "older h"}
    assert "models/hnn" not in do(checkouts, tmp_path)[1]


def test_a_commit_without_golden_numbers_is_refused_in_one_line(checkouts, tmp_path):
    (checkouts[0] / "bench" / "golden.py").unlink()
    with pytest.raises(accept.GateError, match="knows no golden numbers yet: give a later one with --base"):
        do(checkouts, tmp_path)


def test_a_commit_that_is_none_is_refused_in_one_line(capsys):
    assert cli.main(["accept", "--base", "nowhere"]) == 2
    assert "there is no commit nowhere here" in capsys.readouterr().err


def test_a_checkout_that_fails_is_told_by_its_last_line(tmp_path):
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "golden.py").write_text("raise SystemExit('this fails')\n")
    with pytest.raises(RuntimeError, match=r"this fails$"):
        list(golden.ask(tmp_path, ["rows"], tmp_path / "cache"))


@pytest.mark.deep
def test_an_edit_of_layout_in_arithmetic_keeps_names_and_one_of_a_number_does_not(tmp_path):
    """Really: a copy of this checkout as base, and one whose rows were edited."""
    base, head = tmp_path / "base", tmp_path / "head"
    for where in (base, head):
        subprocess.run(["git", "-C", str(identity.ROOT), "checkout-index", "--all", f"--prefix={where}/"], check=True)
    row = head / "models" / "mlp.py"
    row.write_text(row.read_text() + "\nUNUSED = 1\n")
    console = Console(record=True, width=200, file=open("/dev/null", "w"))  # noqa: SIM115
    assert accept.rows(base, head, tmp_path / "cache", console) == 0
    assert "models/mlp: the same bits" in console.export_text()
    (renamed,) = json.loads(accept._accepted(head).read_text()).items()
    before, now = (dict(golden.ask(root, ["rows"], tmp_path / "cache"))["rows"]["models/mlp"] for root in (base, head))
    assert renamed == (now["content"], before["called"])
    assert now["called"] == before["called"]
    row.write_text(row.read_text().replace("learning_rate=", "learning_rate=1.01 * "))
    assert "learning_rate=1.01" in row.read_text()
    assert accept.rows(base, head, tmp_path / "cache", console) == 1
    assert "models/mlp: its numbers changed" in console.export_text()
