"""Wrong input gets one clear line and exit code 2, before any training, and nothing is written."""

import errno
import json
import os
import signal
from dataclasses import fields

import pytest

import bench.run
from bench import cli, grid, pool, presets, results
from bench.presets import PRESETS, Preset

WRONG = {
    "frob": "unknown command 'frob': choose from run, table, list, show, tune",
    "run nope": "unknown preset 'nope': choose from smoke, laptop, paper",
    "run smoke --systems triple_pendulum": "unknown system 'triple_pendulum': choose from double_pendulum, magnetic_charge,",
    "run smoke --models lnn gpt": "unknown model 'gpt': choose from delan, hnn",
    "run smoke --stepz 3": "--stepz",
    "run smoke --steps abc": "--steps",
    "run smoke --steps 1.5": "--steps",
    "run smoke --steps 0": "steps is 0",
    "run smoke --batch -1": "batch is -1",
    "run smoke --segment 1": "segment is 1",
    "run smoke --chunk 0": "chunk is 0",
    "run smoke --warmup -1": "warmup is -1",
    "run smoke --seeds -1": "seeds",
    "run smoke --seeds 0 0": "seeds: each only once",
    "run smoke --seeds": "seeds: give at least one",
    "run smoke --data-share 0": "data_share is 0.0",
    "run smoke --horizon-share 2": "horizon_share is 2.0",
    "run smoke --data-share nan": "data_share is nan",
    "run smoke --learning-rate nan": "learning_rate is nan",
    "run smoke --learning-rate -1": "learning_rate is -1.0",
    "run smoke --optimizer sgd": "muon",
    "run smoke --steps 99999999999": "steps is 99999999999: give a whole number from 1 to 2147483647",
    "run smoke --seeds 99999999999": "seeds is (99999999999,): give whole numbers from 0 to 2147483647",
    "run smoke --checkpoint-seconds -1": "checkpoint_seconds is -1.0: give seconds from 0",
    "run smoke --checkpoint-seconds inf": "checkpoint_seconds is inf",
    "run smoke --time-limit 0": "time_limit is 0.0: give seconds above 0, or None",
    "run smoke --time-limit nan": "time_limit is nan",
    "run smoke --time-limit soon": "--time-limit",
    "run smoke --memory-limit -1": "memory_limit is -1.0: give GiB above 0, or None",
    "run smoke --memory-limit inf": "memory_limit is inf",
    "run smoke --workers 0": "workers is 0",
    "tune smoke --workers -3": "workers is -3",
    "table --metrics accuracy": "unknown metric 'accuracy': choose from field_error",
    "table nowhere": "nowhere/grid.json",
    "list everything": "list takes no arguments",
    "show": "name of the run",
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("line", WRONG)
def test_wrong_input_is_one_line_and_exit_code_2_and_writes_nothing(line, capsys, tmp_path):
    assert cli.main(line.split()) == 2
    said = capsys.readouterr().err.strip()
    assert WRONG[line] in said
    assert "\n" not in said
    assert list(tmp_path.iterdir()) == []


def test_every_field_of_a_preset_can_be_given():
    line = (
        "--systems wave --models lnn hnn --seeds 4 --steps 7 --batch 16 --segment 5 --chunk 3 --optimizer adam --schedule trapezoidal --warmup 1 "
        "--learning-rate 0.1 --constants paper --hyperparameters paper --signal frames --sampling states --data-seed 3 "
        "--data-share 0.5 --horizon-share 0.25 --no-haste --checkpoint-seconds 5 --time-limit None --memory-limit 1.5"
    )
    name, options = cli._options(["smoke", *line.split()], "run")
    assert name == "smoke"
    assert options.preset == Preset(
        systems=("wave",),
        models=("lnn", "hnn"),
        seeds=(4,),
        steps=7,
        batch=16,
        segment=5,
        chunk=3,
        optimizer="adam",
        schedule="trapezoidal",
        warmup=1,
        learning_rate=0.1,
        constants="paper",
        hyperparameters="paper",
        signal="frames",
        sampling="states",
        data_seed=3,
        data_share=0.5,
        horizon_share=0.25,
        haste=False,
        checkpoint_seconds=5.0,
        time_limit=None,
        memory_limit=1.5,
    )
    assert all(getattr(options.preset, f.name) != getattr(PRESETS["smoke"], f.name) for f in fields(Preset))


def test_the_default_is_the_laptop_preset():
    assert cli._options([], "run")[1].preset == PRESETS["laptop"] == presets.preset("laptop")
    assert PRESETS["laptop"].seeds == (0, 1, 2)


@pytest.mark.parametrize("command", ["", "run", "table", "show", "tune", "pack", "unpack"])
def test_help_explains_itself(command, capsys):
    try:
        code = cli.main([*command.split(), "--help"])
    except SystemExit as leave:
        code = leave.code
    said = capsys.readouterr().out
    assert code in (0, None)
    assert len(said) > 200
    if command == "run":
        for field in (
            "--steps",
            "--seeds",
            "--learning-rate",
            "--horizon-share",
            "--checkpoint-seconds",
            "--time-limit",
            "--memory-limit",
        ):
            assert field in said
    assert ("--reference" in said) == (command in ("table", "pack"))


def test_list_names_every_row(capsys):
    assert cli.main(["list"]) == 0
    said = capsys.readouterr().out
    for name in ("double_pendulum", "wave", "lnn", "hnn_naive", "predict_zero", "laptop", "paper"):
        assert name in said


def written(folder):
    """Everything in a folder but locks, with its content."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


@pytest.mark.parametrize("name", ["grid.json", "result.json"])
def test_results_of_a_newer_version_are_refused_before_anything_is_written(capsys, tmp_path, name):
    cell = grid.cells(PRESETS["smoke"])[0]
    where = tmp_path / "out" if name == "grid.json" else grid.folder(tmp_path / "out", cell.run_id(None))
    where.mkdir(parents=True)
    (where / name).write_text(json.dumps({"schema": 99, "new": "things"}))
    before = written(tmp_path)
    assert cli.main(["run", "smoke", "--output", "out"]) == 2
    said = capsys.readouterr().err
    assert f"{name} has schema 99, this version reads up to {results.SCHEMA}: update the code, or choose another folder" in said
    assert "\n" not in said.strip()
    assert written(tmp_path) == before


COMMITTED = {
    "run smoke --output {}/laptop": "holds committed reference results: give another folder with --output",
    "run smoke --output {}/new": "holds committed reference results",
    "run smoke --output {}": "holds committed reference results",
    "run smoke --output out/../{}/laptop": "holds committed reference results",
    "run smoke --output link": "holds committed reference results",
    "tune smoke --output {}/laptop": "holds committed reference results",
    "table {}/laptop": "holds committed reference results",
    "pack out {}/laptop": "holds committed reference results",
    "unpack out {}/new": "holds committed reference results",
}


@pytest.mark.parametrize("line", COMMITTED)
def test_committed_results_are_not_written_unless_they_are_meant(line, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(bench.run, "REFERENCE", tmp_path / "reference")
    (tmp_path / "reference" / "laptop").mkdir(parents=True)
    (tmp_path / "reference" / "laptop" / "grid.json").write_text("precious")
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to("reference/laptop")
    before = written(tmp_path)
    assert cli.main(line.format("reference").split()) == 2
    assert COMMITTED[line] in capsys.readouterr().err
    assert written(tmp_path) == before
    bench.run.require_not_reference(tmp_path / "reference" / "laptop", True)
    bench.run.require_not_reference(tmp_path / "out", False)


def ends(monkeypatch, error):
    """`bench run` ends with an error."""

    def run(*_, **__):
        raise error

    monkeypatch.setattr(cli, "run", run)


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (KeyboardInterrupt(), 130, "interrupted; finished runs are kept"),
        (KeyboardInterrupt(signal.SIGINT), 130, "interrupted"),
        (KeyboardInterrupt(signal.SIGTERM), 143, "ended by SIGTERM; finished runs are kept"),
        (pool.NoSpace(), 1, "no space left on the disk; what is finished is kept"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "no space left on the disk"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 1, "no space left on the disk"),
    ],
    ids=repr,
)
def test_what_ends_a_run_early_is_one_line_with_the_command_that_goes_on(monkeypatch, capsys, error, code, says):
    ends(monkeypatch, error)
    assert cli.main(["run", "smoke", "--seeds", "1", "2", "--output", "a folder"]) == code
    said = capsys.readouterr().err.strip()
    assert says in said
    assert said.endswith("-m bench run smoke --seeds 1 2 --output 'a folder'")
    assert "\n" not in said


@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken disk"), ZeroDivisionError("a bug"), ValueError("another")], ids=repr)
def test_what_nobody_foresaw_is_not_hidden(monkeypatch, error):
    ends(monkeypatch, error)
    with pytest.raises(type(error)):
        cli.main(["run", "smoke"])


def test_a_terminal_that_is_gone_does_not_keep_a_run_from_ending(monkeypatch):
    ends(monkeypatch, KeyboardInterrupt(1))
    monkeypatch.setattr("builtins.print", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.EIO, "no terminal")))
    assert cli.main(["run", "smoke"]) == 129


@pytest.fixture
def signals():
    names = ("SIGTERM", "SIGHUP")
    before = {name: signal.signal(getattr(signal, name), signal.SIG_DFL) for name in names}
    yield
    for name, handler in before.items():
        signal.signal(getattr(signal, name), handler)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no such signal here")
@pytest.mark.usefixtures("signals")
def test_a_request_to_end_ends_like_ctrl_c_and_what_is_ignored_stays_so():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    cli.end_like_ctrl_c()
    with pytest.raises(KeyboardInterrupt) as interruption:
        signal.raise_signal(signal.SIGTERM)
    assert interruption.value.args == (signal.SIGTERM,)
    signal.raise_signal(signal.SIGHUP)


def test_a_folder_that_cannot_be_written_is_refused(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert cli.main(["run", "smoke", "--output", "file/inside"]) == 2
    assert "file/inside cannot be written" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0 if hasattr(os, "geteuid") else True, reason="root may write everywhere")
def test_a_read_only_folder_is_refused(capsys, tmp_path):
    (tmp_path / "fixed").mkdir(mode=0o500)
    assert cli.main(["run", "smoke", "--output", "fixed/inside"]) == 2
    assert "fixed/inside cannot be written" in capsys.readouterr().err
