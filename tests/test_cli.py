"""Wrong input gets one clear line and exit code 2, before any training, and nothing is written."""

import json
import os

import pytest

from bench import cli, presets
from bench.presets import PRESETS, Preset

WRONG = {
    "frob": "unknown command 'frob': choose from run, table, list, show, tune",
    "run nope": "unknown preset 'nope': choose from smoke, laptop, paper",
    "run smoke --systems triple_pendulum": "unknown system 'triple_pendulum': choose from double_pendulum, relativistic_particle, wave",
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
        "--systems wave --models lnn hnn --seeds 4 --steps 7 --batch 16 --segment 5 --chunk 3 --optimizer adam --warmup 1 --learning-rate 0.1 "
        "--constants paper --hyperparameters paper --sampling states --data-seed 3 --data-share 0.5 --horizon-share 0.25 --no-haste"
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
        warmup=1,
        learning_rate=0.1,
        constants="paper",
        hyperparameters="paper",
        sampling="states",
        data_seed=3,
        data_share=0.5,
        horizon_share=0.25,
        haste=False,
    )


def test_the_default_is_the_laptop_preset():
    assert cli._options([], "run")[1].preset == PRESETS["laptop"] == presets.preset("laptop")
    assert PRESETS["laptop"].seeds == (0, 1, 2)


@pytest.mark.parametrize("command", ["", "run", "table", "show", "tune"])
def test_help_explains_itself(command, capsys):
    try:
        code = cli.main([*command.split(), "--help"])
    except SystemExit as leave:
        code = leave.code
    said = capsys.readouterr().out
    assert code in (0, None)
    assert len(said) > 200
    if command == "run":
        for field in ("--steps", "--seeds", "--learning-rate", "--horizon-share"):
            assert field in said


def test_list_names_every_row(capsys):
    assert cli.main(["list"]) == 0
    said = capsys.readouterr().out
    for name in ("double_pendulum", "wave", "lnn", "hnn_naive", "predict_zero", "laptop", "paper"):
        assert name in said


def test_a_folder_of_another_schema_is_refused_before_training(capsys, tmp_path):
    from bench import grid

    cell = grid.cells(PRESETS["smoke"])[0]
    where = grid.folder(tmp_path / "out", cell.run_id(None))
    where.mkdir(parents=True)
    (where / "result.json").write_text(json.dumps({"schema": 0}))
    before = sorted(tmp_path.rglob("result.json"))
    assert cli.main(["run", "smoke", "--output", str(tmp_path / "out")]) == 2
    assert "has schema 0, this version reads 1" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("result.json")) == before
    assert not (tmp_path / "out" / "grid.json").exists()


def test_a_damaged_cache_is_refused_before_training(capsys, tmp_path):
    import systems
    from bench import data

    preset, name = PRESETS["smoke"], "double_pendulum"
    path = tmp_path / "results" / "cache" / f"{name}-{data.key(name, systems.get(name), preset)}.npz"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"rubbish")
    assert cli.main(["run", "smoke"]) == 2
    assert f"{path.relative_to(tmp_path)} is damaged" in capsys.readouterr().err
    assert path.read_bytes() == b"rubbish"
    assert list((tmp_path / "results" / "latest" / "smoke").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_refused(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert cli.main(["run", "smoke", "--output", "file/inside"]) == 2
    assert "file/inside cannot be written" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0 if hasattr(os, "geteuid") else True, reason="root may write everywhere")
def test_a_read_only_folder_is_refused(capsys, tmp_path):
    (tmp_path / "fixed").mkdir(mode=0o500)
    assert cli.main(["run", "smoke", "--output", "fixed/inside"]) == 2
    assert "fixed/inside cannot be written" in capsys.readouterr().err
