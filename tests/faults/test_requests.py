"""Malformed requests, and machines that are not as one would like."""

import os
import random
import shutil
import subprocess
from dataclasses import fields

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from scene import ONE, TINY, Scene

from bench import cli
from bench.presets import Preset

WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=1, max_size=12).filter(lambda word: not word.startswith("-"))


def not_an_int(text: str) -> bool:
    try:
        int(text)
    except ValueError:
        return True
    return False


def not_a_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text != "None"
    return False


def outside(least: int, most: int):
    """Whole numbers beyond what is allowed."""
    return st.one_of(st.integers(max_value=least - 1), st.integers(min_value=most + 1)).map(str)


NO_INT = st.one_of(WORDS.filter(not_an_int), st.floats(allow_nan=True).map(str))
NO_FLOAT = st.one_of(WORDS.filter(not_a_number), st.sampled_from(["nan", "inf", "-inf", "-1", "-0.5"]))
BIG = 2**31 - 1
WRONG: dict[str, st.SearchStrategy[str]] = {
    "systems": WORDS.filter(lambda w: w not in ("double_pendulum", "relativistic_particle", "wave")),
    "models": WORDS,
    "seeds": st.one_of(NO_INT, outside(0, BIG), st.just("3 3"), st.just("")),
    **{name: st.one_of(NO_INT, outside(1, BIG), st.just("")) for name in ("steps", "batch", "chunk")},
    "segment": st.one_of(NO_INT, outside(2, BIG)),
    "warmup": st.one_of(NO_INT, outside(0, BIG)),
    "data_seed": st.one_of(NO_INT, outside(0, BIG)),
    "optimizer": WORDS.filter(lambda w: w not in ("soap", "muon", "adam")),
    "schedule": WORDS.filter(lambda w: w not in ("cosine", "trapezoidal")),
    "signal": WORDS.filter(lambda w: w != "own"),  # the others are refused for the step map, by name
    "learning_rate": st.one_of(NO_FLOAT, st.just("0")),
    "constants": WORDS.filter(lambda w: w not in ("default", "paper")),
    "hyperparameters": WORDS.filter(lambda w: w not in ("default", "paper")),
    "sampling": WORDS.filter(lambda w: w not in ("trajectories", "states")),  # fresh is refused for the step map, by name
    "data_share": st.one_of(NO_FLOAT, st.floats(1.001, 1e30).map(str), st.just("None")),
    "horizon_share": st.one_of(NO_FLOAT, st.floats(1.001, 1e30).map(str), st.just("0")),
    "haste": WORDS,
    "checkpoint_seconds": NO_FLOAT,
    "time_limit": st.one_of(NO_FLOAT, st.just("0")),
    "memory_limit": st.one_of(NO_FLOAT, st.just("0")),
    "workers": st.one_of(NO_INT, st.integers(max_value=0).map(str)),
}


@pytest.mark.fault("F13", "malformed configuration, ≥ 1,000 generated cases", "exit 2, field named, nothing written")
def test_malformed_configurations_are_refused_by_name(tmp_path, monkeypatch, capsys, short, measured):
    monkeypatch.chdir(tmp_path)
    assert set(WRONG) == {f.name for f in fields(Preset)} | {"workers"}
    count = 0
    cases = st.sampled_from(sorted(WRONG)).flatmap(lambda name: st.tuples(st.just(name), WRONG[name]))

    @settings(max_examples=150 if short else 1200, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(case=cases, command=st.sampled_from(["run", "tune"]), preset=st.sampled_from(["smoke", "laptop", "paper"]))
    def refused(case, command, preset):
        nonlocal count
        name, value = case
        count += 1
        option = f"--{name.replace('_', '-')}"
        code = cli.main([command, preset, option, *value.split(" ")] if value else [command, preset, option])
        said = capsys.readouterr().err
        assert code == 2, (name, value, said)
        assert "\n" not in said.strip(), said
        shown = said.replace("-", "_")
        assert name in shown or name.rstrip("s") in shown, (name, value, said)
        assert not list(tmp_path.iterdir()), (name, value)

    refused()
    assert count >= (150 if short else 1000)
    measured(f"{count} cases: {count} times exit 2 in one line that names the field; nothing written")


CLOCK = """
import glob, os, time
if "SET_BACK_ONCE_THERE_IS" in os.environ:
    right = time.time
    time.time = lambda: right() - 3600 * bool(glob.glob(os.environ["SET_BACK_ONCE_THERE_IS"]))
"""


@pytest.mark.full
@pytest.mark.fault(
    "F19",
    "machine clock moved back during a run; no git; dirty tree; path with spaces and non-ASCII; LANG=C",
    "runs; provenance says so",
)
def test_odd_machines_run_and_the_provenance_says_so(tmp_path, warm, measured):
    scene = Scene(tmp_path / "résultats à moi, λ = 1", {"sitecustomize.py": CLOCK}, warm)
    tools = tmp_path / "no git here"
    tools.mkdir()
    env = {"LANG": "C", "LC_ALL": "C", "PATH": str(tools), "SET_BACK_ONCE_THERE_IS": "results/latest/smoke/runs/*-hnn-*/.lock"}
    done = scene.bench("run", "smoke", *ONE, **env)
    assert done.code == 0, done.said
    (result,) = [r for r in scene.rows().values() if r["model"] == "hnn"]
    odd = result["provenance"]
    assert (odd["commit"], odd["dirty"]) == (None, None)
    assert odd["clock_moved_seconds"] == -3600

    scene = Scene(tmp_path / "dirty", warm=warm)
    git = ["git", "-c", "user.name=n", "-c", "user.email=e", "-C", str(scene.root)]
    for command in (["init", "-q"], ["add", "models", "systems", "bench"], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *command], check=True)
    with (scene.root / "models" / "hnn.py").open("a") as file:
        file.write("\n# changed\n")
    scene.run(*ONE)
    (result,) = [r for r in scene.rows().values() if r["model"] == "hnn"]
    assert result["provenance"]["dirty"] is True
    assert len(result["provenance"]["commit"]) == 40
    measured("exit 0; clock_moved_seconds −3600; commit null without git; dirty true with a change; path and locale make no difference")


@pytest.mark.fault(
    "S1", "results from others: paths that lead out, archives that swell, a reference folder as output", "refused by name, nothing written"
)
def test_what_comes_from_others_cannot_lead_out_or_overwrite_the_reference(scene, measured):
    shutil.copytree(scene.root / "bench", scene.root / "results" / "reference" / "laptop")
    before = sorted((p, p.stat().st_mtime_ns) for p in (scene.root / "results" / "reference").rglob("*"))
    done = scene.bench("run", "smoke", *TINY, "--output", "results/reference/laptop")
    assert done.code == 2
    assert "committed reference results" in done.said
    os.symlink("reference/laptop", scene.root / "results" / "harmless")
    assert scene.bench("table", "results/harmless").code == 2
    assert before == sorted((p, p.stat().st_mtime_ns) for p in (scene.root / "results" / "reference").rglob("*"))
    from bench import results

    outside = scene.root / "secret"
    outside.mkdir()
    for name in ("../../../secret", "/etc", "a-b-0123456789ab/../../x", random.choice(["..", "."])):
        grid = {"name": "smoke", "preset": {}, "runs": [name]}
        results.write_sealed(scene.output / results.GRID, grid)
        done = scene.bench("table", str(scene.output))
        assert done.code == 2, done.said
        assert "which no run is called" in done.said, done.said
    measured("2 outputs among the reference (one through a link) and 4 run names that lead out: refused, nothing touched")
