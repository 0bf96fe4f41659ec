"""What the documents say is true: their code runs, and their numbers come from committed results."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bench
from bench import derived, grid, pack, packed, results
from bench.claims import CLAIMS
from bench.table1 import TableOne

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "results" / "reference" / "laptop"


def blocks(document: str) -> dict[str, str]:
    """File name -> content of the code blocks that name a file."""
    found = re.findall(r"```python (\S+\.py)\n(.*?)```", (ROOT / document).read_text(encoding="utf-8"), re.DOTALL)
    return dict(found)


def test_the_system_and_the_model_of_contributing_run_as_they_stand(tmp_path):
    for package in ("systems", "models", "bench"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    files = blocks("CONTRIBUTING.md")
    assert {Path(name).parent.name for name in files} == {"systems", "models"}
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    new = {Path(name).parent.name: Path(name).stem for name in files}
    tiny = ["--steps", "20", "--chunk", "10", "--data-share", "0.02", "--horizon-share", "0.1", "--workers", "2"]
    command = [sys.executable, "-m", "bench", "run", "smoke", "--systems", new["systems"], "--models", new["models"], *tiny]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert new["models"] in done.stdout
    _, rows, holes = grid.read_grid(tmp_path / "results" / "latest" / "smoke")
    assert holes == {}
    assert {r["status"] for r in rows} == {"finished"}
    assert {r["model"] for r in rows if r["seed"] == 0} == {new["models"]}
    note = "is given true momenta; its mass matrix cannot depend on the position."
    assert note in (tmp_path / "results" / "latest" / "smoke" / "table.md").read_text(encoding="utf-8")


def test_the_reference_is_whole_and_its_tables_are_derived_from_its_results(tmp_path):
    copy = shutil.copytree(REFERENCE, tmp_path / "laptop")
    manifest, rows, holes = grid.read_grid(copy)
    assert holes == {}
    assert {r["status"] for r in rows} == {"finished"}
    assert {manifest["schema"], *(r["schema"] for r in rows)} == {results.SCHEMA}  # whatever it was written with, this version reads it
    made = [path.relative_to(copy) for path in copy.rglob("*") if path.suffix in (".csv", ".md", ".tex", ".svg", ".html")]
    assert {"results.csv", "table1.md", "symmetry.md", "published.md", "report.html", "figures/energy.svg"} <= set(map(str, made))
    for file in made:
        (copy / file).unlink()
    derived.write(copy)
    for file in made:
        if file.suffix in (".svg", ".html"):
            assert_drawn_alike((copy / file).read_text(encoding="utf-8"), (REFERENCE / file).read_text(encoding="utf-8"))
        else:
            assert (copy / file).read_bytes() == (REFERENCE / file).read_bytes(), file


def assert_drawn_alike(one: str, other: str):
    """Equal but for the last digits: logarithms of another processor differ in a bit. On one machine bytes are equal (tests/test_report.py)."""
    number = re.compile(r"-?\d+\.\d+")
    skeletons, numbers = zip(*((number.sub("", t), [float(n) for n in number.findall(t)]) for t in map(without_images, (one, other))), strict=True)
    assert skeletons[0] == skeletons[1]
    assert numbers[0] == pytest.approx(numbers[1], abs=1e-3)


def without_images(text: str) -> str:
    return re.sub(r"data:image/png;base64,[^\"]*", "", text)


def test_every_run_that_the_report_names_is_committed():
    text = (REFERENCE / "report.html").read_text(encoding="utf-8")
    named = {match.group() for match in results.RUN_NAME.finditer(text)}
    assert len(named) > 300
    assert [run for run in named if results.read(grid.folder(REFERENCE, run))["run"] != run] == []


def test_the_reference_is_packed_small_and_nothing_else_lies_there():
    assert sum(p.stat().st_size for p in REFERENCE.rglob("*") if p.is_file()) <= 12e6
    assert {path.suffix for path in (REFERENCE / "runs").iterdir()} == {packed.SUFFIX}
    assert {path.name for path in REFERENCE.iterdir()} <= set(pack.OURS)


def test_packing_the_reference_once_more_changes_nothing():
    """But what another liblzma makes of it: the content is compared, not its compression."""
    for name, cell in pack.cells(REFERENCE).items():
        there = packed.read(REFERENCE / "runs" / name)
        assert cell.results == there.results
        for ours, theirs in ((cell.curves, there.curves), (cell.parameters, there.parameters)):
            assert {run: results.digest(arrays) for run, arrays in ours.items()} == {run: results.digest(arrays) for run, arrays in theirs.items()}


def test_the_readme_shows_the_reference_table():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = (REFERENCE / "table.md").read_text(encoding="utf-8")
    ticks = re.sub(r"\[(.)\]\(#[a-z-]+\)", r"\1", (REFERENCE / "table1.md").read_text(encoding="utf-8"))
    shown = [line for line in readme.splitlines() if line.startswith("|")]
    assert len(shown) > 20
    assert len([line for line in shown if line in ticks.splitlines()]) >= 2 + len(CLAIMS)
    assert not [line for line in shown if line not in (*table.splitlines(), *ticks.splitlines())]


def test_a_document_takes_the_tables_between_its_marks_and_one_without_marks_is_refused(tmp_path):
    table, document = TableOne(REFERENCE), tmp_path / "page.md"
    document.write_text("before\n<!-- table1 -->\nold\n<!-- /table1 -->\nafter\n", encoding="utf-8")
    for _ in range(2):
        derived.insert(REFERENCE, table, document)
    text = document.read_text(encoding="utf-8")
    assert text.startswith("before\n<!-- table1 -->\n| | neural network")
    assert text.endswith("|\n\n<!-- /table1 -->\nafter\n")
    assert "old" not in text
    document.write_text("nothing", encoding="utf-8")
    with pytest.raises(results.ResultsError, match="has no lines <!-- table -->"):
        derived.insert(REFERENCE, table, document)


def test_the_readme_shows_how_a_model_is_loaded(monkeypatch, capsys):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert '"results/reference/laptop"' in code
    monkeypatch.chdir(ROOT)
    exec(compile(code, "README.md", "exec"), {})
    assert "[" in capsys.readouterr().out
    rows = [row for file in (results.GRID, results.TABLE1) for row in grid.read_grid(REFERENCE, file)[1]]
    assert {(system, model) for system, model, _ in bench.trained(REFERENCE)} == {(r["system"], r["model"]) for r in rows if r["seed"] is not None}


def test_every_make_target_of_the_documents_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    text = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))
    targets = set(re.findall(r"`make ((?:[a-z]+ ?)+)`", text))
    assert targets
    for target in {word for line in targets for word in line.split()}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize(("file", "optimizer"), [("tuning.csv", "soap"), ("tuning_muon.csv", "muon")])
def test_the_chosen_learning_rates_stand_in_the_models_files(file, optimizer):
    import pandas as pd

    import models

    tuning = pd.read_csv(ROOT / "results" / "reference" / file)
    chosen = tuning[tuning.chosen].set_index("model").learning_rate
    for name in models.names():
        assert models.get(name).settings.rate_of(optimizer) == chosen[name]
    trials = tuning.groupby("model").size()
    assert trials.nunique() == 1


def test_no_file_names_an_address_of_a_registry_or_a_path_of_this_machine():
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    places = [str(ROOT) + "/", str(Path.home()) + "/"]
    for name in names:
        if not name.startswith("results/") and (ROOT / name).exists() and (ROOT / name).suffix in {".py", ".md", ".toml", ".lock", ".yml", ""}:
            text = (ROOT / name).read_text(encoding="utf-8")
            assert not [place for place in places if place in text], name
