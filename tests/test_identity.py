"""A name changes when, and only when, what it names changes."""

import json
import shutil
import subprocess
import sys
from dataclasses import fields, make_dataclass, replace
from pathlib import Path

import pytest
from planted import FEW, write

from bench import cached, evaluate, grid, identity, parts, presets, provenance, results, tables, train
from bench.presets import PRESETS
from bench.runs import Runs
from bench.sheet import Sheet
from systems._configuration import added

SMOKE = PRESETS["smoke"]


def cell(system="wave", model="lnn", **changes):
    return grid.Cell(replace(SMOKE, **changes), system, model)


def test_a_run_is_named_by_system_model_seed_and_configuration():
    names = {cell().run_id(0), cell().run_id(1), cell(model="hnn").run_id(0), cell(system="double_pendulum").run_id(0), cell(steps=101).run_id(0)}
    assert len(names) == 5
    assert cell().run_id(0) == cell(seeds=(0, 7), models=("lnn",)).run_id(0)


def test_canonical_text_does_not_depend_on_the_order_of_fields():
    assert identity.canonical({"a": 1, "b": (2, 3)}) == identity.canonical({"b": [2, 3], "a": 1})
    with pytest.raises(TypeError):
        identity.canonical({"a": {1, 2}})


# fields that came later -----------------------------------------------------------------------------------------------


WARPED = replace(SMOKE, systems=("wave", "pendulum_warped"))


def grown(value, **given):
    """A configuration whose class has one field more, `later`, of which "before" was meant before it came."""
    kind = type(value)
    larger = make_dataclass(kind.__name__, [("later", str, added("new", before="before"))], bases=(kind,), frozen=True)
    return larger(**{f.name: getattr(value, f.name) for f in fields(value)}, **given)


def filmed(system, recording):
    """The same system with another recording."""
    kind = type(system)
    other = make_dataclass(kind.__name__, [], bases=(kind,), frozen=True, namespace={"recording": recording})
    return other(**{f.name: getattr(system, f.name) for f in fields(system)})


GROWN = {  # where a configuration of each kind stands
    "preset": {"preset": grown},
    "settings": {"settings": grown},
    "shape": {"settings": lambda settings, **given: replace(settings, shape=grown(settings.shape, **given))},
    "system": {"system": grown},
    "recording": {"system": lambda system, **given: filmed(system, grown(system.recording, **given))},
    "integrator": {
        "system": lambda system, **given: filmed(system, replace(system.recording, integrator=grown(system.recording.integrator, **given)))
    },
    "warp": {"system": lambda system, **given: replace(system, warp=grown(system.warp, **given)) if hasattr(system, "warp") else system},
}


def named(monkeypatch, where: dict, **given) -> dict[tuple, str]:
    """Names of the runs and data sets of a preset, with a configuration that has grown."""
    same = lambda value, **given: value  # noqa: E731
    with monkeypatch.context() as patch:
        system, settings = grid.Cell.get_system, grid.Cell.get_settings
        patch.setattr(grid.Cell, "get_system", lambda self: where.get("system", same)(system(self), **given))
        patch.setattr(grid.Cell, "get_settings", lambda self: where.get("settings", same)(settings(self), **given))
        preset = where.get("preset", same)(WARPED, **given)
        found = {(cell.system, cell.model): cell.run_id(seed) for cell in grid.cells(preset) for seed in cell.seeds}
        return found | {(c.system, "data"): cached.key(c.system, c.get_system(), preset) for c in grid.cells(preset)}


@pytest.mark.parametrize("kind", GROWN)
def test_a_field_that_came_later_changes_no_name_at_the_value_before_it_came_and_names_at_every_other(kind, monkeypatch):
    usual = named(monkeypatch, {})
    assert named(monkeypatch, GROWN[kind], later="before") == usual
    changed = {cell for cell, name in named(monkeypatch, GROWN[kind]).items() if name != usual[cell]}
    of_models = {cell for cell in usual if cell[1] in WARPED.models}
    warped = {cell for cell in usual if cell[0] == "pendulum_warped"}
    assert changed == {"preset": of_models, "settings": of_models, "shape": of_models, "warp": warped}.get(kind, set(usual))


def test_a_stored_configuration_without_a_field_that_came_later_means_the_value_before_it_came(tmp_path, monkeypatch):
    grid.write_manifest(tmp_path, "smoke", SMOKE)
    larger = grown(SMOKE)
    for module in (grid, presets):
        monkeypatch.setattr(module, "Preset", type(larger))
    assert larger.later == "new"
    assert grid.read_manifest(tmp_path)["preset"]["later"] == "before"
    old, new = (grid.Cell(preset, "wave", "lnn").configuration()["preset"] for preset in (SMOKE, grown(SMOKE, later="before")))
    rows = [{"run": str(i), "configuration": {"preset": identity.plain(made)}} for i, made in enumerate((old, new))]
    grid.refuse_mixed(rows, lambda row: row["configuration"]["preset"], "presets")
    assert presets.filled(old) == presets.filled(new)


# what a row says ------------------------------------------------------------------------------------------------------

SPECIMEN = Path(__file__).parent / "specimen_source.py.txt"  # much of Python's grammar, up to version 3.11
SPECIMEN_DIGEST = "d3a3f20369fa253f8df49cfbf95166012dcecfbec0a7561a11bfd247cf5f2789"  # when this changes, all runs are renamed


def test_a_source_says_the_same_on_every_python():
    """`make test` on another Python proves it for that one; those that are at hand are asked here."""
    assert identity.digest(identity.syntax(SPECIMEN.read_bytes())) == SPECIMEN_DIGEST
    code = "from bench import identity; import pathlib, sys; print(identity.digest(identity.syntax(pathlib.Path(sys.argv[1]).read_bytes())))"
    for python in filter(None, (shutil.which(f"python3.{minor}") for minor in range(11, 16))):
        done = subprocess.run([python, "-c", code, str(SPECIMEN)], cwd=identity.ROOT, capture_output=True, text=True)
        if "command not found" not in done.stderr:  # a shim may lead to nothing
            assert done.stdout.strip() == SPECIMEN_DIGEST, f"{python}: {done.stderr}"


SAME = {
    "comments": "def f(x):  # why\n    # why\n    return x + 1\n",
    "layout": "def f(\n    x,\n):\n\n    return (x\n            + 1)\n",
    "documentation": '"""Module."""\n\n\ndef f(x):\n    """Doc."""\n    "Note."\n    return x + 1\n',
    "byte-order mark": "\ufeffdef f(x):\n    return x + 1\n",
}


@pytest.mark.parametrize("text", SAME.values(), ids=list(SAME))
def test_comments_layout_and_docstrings_do_not_count(text):
    assert identity.syntax(text.encode()) == identity.syntax("def f(x):\n    return x + 1\n")


PAIRS = [
    ("x + 1", "x + 2"),
    ("1", "1.0"),
    ("1", "True"),
    ("None", "'None'"),
    ("''", "None"),
    ("b'a'", "'a'"),
    ("...", "'Ellipsis'"),
    ("f'{x!r}'", "f'{x}'"),
    ("f'{x:3}'", "f'{x:4}'"),
    ("f'{x}'", "f'x'"),
    ("f'{x} '", "f'{x}'"),
    ("{**a}", "{None: a}"),
    ("f(a, b)", "f((a, b))"),
    ("lambda x, *, y: 0", "lambda x, y: 0"),
    ("lambda x, /: 0", "lambda x: 0"),
    ("lambda *, x=1, y: 0", "lambda *, x, y=1: 0"),
    ("x[1:2]", "x[1:2:]" + "[0]"),
    ("'a,b', 'c'", "'a', 'b,c'"),
    ("[x for x in y if x]", "[x for x in y]"),
]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_what_differs_in_meaning_differs(one, other):
    assert identity.syntax(f"x = {one}\n") != identity.syntax(f"x = {other}\n")
    assert identity.syntax(f"def f():\n    return {one}\n") != identity.syntax(f"def f():\n    {one}\n")


@pytest.fixture
def rows(tmp_path, monkeypatch):
    """A checkout of empty packages; gives a function that writes rows, and one that says what a row is called there."""
    monkeypatch.setattr(identity, "ROOT", tmp_path)
    monkeypatch.setattr(identity, "ACCEPTED", tmp_path / "accepted.json")

    def write(**texts):
        for name, text in texts.items():
            path = tmp_path / f"{name.replace('__', '/')}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)

    def called(package, name):
        for cached_function in (identity._content, identity._imported, identity.content, identity.accepted):
            cached_function.cache_clear()
        return identity.row(package, name)

    yield write, called
    monkeypatch.undo()
    called("systems", "wave")


IMPORTS = {
    "from models.base import Base": True,
    "from models import base": True,
    "from models import base as b, other": True,
    "import models.base": True,
    "import models.base as base": True,
    "from . import base": True,
    "from .base import Base": True,
    "from .base import *": True,
    "def f():\n    from models.base import Base": True,
    "from models.between import x": True,  # imports it in its turn
    "from models._shared import x": True,  # so does this, which is no row
    "from models import other": False,
    "import models": False,
    "from systems.base import x": False,  # of the same name in the other package
    "import base": False,
    "from bench.base import x": False,
}


@pytest.mark.parametrize(("line", "depends"), IMPORTS.items())
def test_a_row_depends_on_the_rows_that_it_imports_in_any_form_and_to_any_depth(rows, line, depends):
    write, called = rows
    write(models__mine=f"{line}\n", models__base="a = 1\n", models__between="from models.base import a\n", models__other="a = 1\n")
    write(models___shared="from models import base\n", systems__base="a = 1\n", bench__base="a = 1\n")
    before = called("models", "mine")
    write(models__base="a = 2\n")
    assert (called("models", "mine") != before) == depends
    write(models__base="a = 1  # the same again\n")
    assert called("models", "mine") == before


def test_shared_code_is_no_part_of_a_rows_name(rows):
    write, called = rows
    write(models__mine="from models._shared import x\n", models___shared="x = 1\n")
    before = called("models", "mine")
    write(models___shared="x = 2\n")
    assert called("models", "mine") == before


def test_rows_that_import_each_other_end(rows):
    write, called = rows
    write(models__a="from models import b\n", models__b="from models import a\n")
    assert called("models", "a") == called("models", "b")


def test_the_rows_here_depend_on_what_they_build_on():
    assert [path.stem for path in identity.row_files("models", "hnn_naive")] == ["hnn", "hnn_naive"]
    assert [path.stem for path in identity.row_files("systems", "pendulum_warped")] == ["double_pendulum", "pendulum_warped"]
    assert [path.stem for path in identity.row_files("models", "lnn")] == ["lnn"]


def test_an_accepted_row_is_called_as_the_one_whose_bits_it_gives(rows):
    write, called = rows
    write(models__mine="a = 1 + 1\n")
    before = called("models", "mine")
    write(models__mine="a = 2\n")
    assert called("models", "mine") != before
    identity.ACCEPTED.write_text(json.dumps({identity.content("models", "mine"): before}))
    assert called("models", "mine") == before
    write(models__mine="a = 3\n")
    assert called("models", "mine") != before
    identity.ACCEPTED.write_text("[]")
    with pytest.raises(ValueError, match=r"accepted\.json is not what bench accept writes: git restore"):
        called("models", "mine")


# numbers of shared code, versions -------------------------------------------------------------------------------------


def test_raising_the_number_of_training_renames_all_runs_and_data_sets(monkeypatch):
    usual = named(monkeypatch, {})
    monkeypatch.setattr(train, "TRAINING", train.TRAINING + 1)
    now = named(monkeypatch, {})
    assert not [cell for cell in usual if usual[cell] == now[cell]]


def test_raising_the_number_of_evaluation_renames_nothing_and_makes_metrics_stale(monkeypatch):
    usual, made = named(monkeypatch, {}), cell().code
    monkeypatch.setattr(evaluate, "EVALUATION", evaluate.EVALUATION + 1)
    assert named(monkeypatch, {}) == usual
    assert parts.missing(made, cell()) == [parts.WHOLE]


@pytest.mark.parametrize(
    ("package", "counts"), [*((name, True) for name in identity.IN_NAMES), ("python", False), ("numpy", False), ("diffrax", False)]
)
def test_versions_of_what_computes_a_training_are_part_of_names_and_no_others(package, counts, monkeypatch):
    usual = named(monkeypatch, {})
    other = {**identity.versions(), package: "0.0.1"}
    monkeypatch.setattr(identity, "versions", lambda: other)
    assert {usual[cell] != name for cell, name in named(monkeypatch, {}).items()} == {counts}


def test_git_says_nothing_of_a_repository_that_this_one_merely_lies_in(tmp_path, monkeypatch):
    assert identity.git("rev-parse", "HEAD") is not None
    monkeypatch.setattr(identity, "ROOT", identity.ROOT / "bench")
    assert identity.git("rev-parse", "HEAD") is None
    monkeypatch.setattr(identity, "ROOT", tmp_path)
    assert identity.git("rev-parse", "HEAD") is None


def test_a_new_row_file_is_a_change_of_the_checkout(monkeypatch):
    asked = []
    monkeypatch.setattr(identity, "git", lambda *arguments: asked.append(arguments) or "")
    assert provenance.of(provenance.clock())["dirty"] is False
    (status,) = [arguments for arguments in asked if arguments[0] == "status"]
    assert {"--untracked-files=all", "systems", "models", "bench"} <= set(status)


def test_names_need_no_jax():
    code = "from bench import identity; identity.row('models', 'hnn_naive'); import sys; print(sorted({'jax', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=identity.ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# results of other code ------------------------------------------------------------------------------------------------

GONE = object()
OLD = {"training_code": "a" * 64, "evaluation_code": "b" * 64, "shared_code": "c" * 64}  # as the naming before this one wrote


def folder_of(tmp_path, **changes: dict):
    """A folder with two seeds of two cells, whose second seeds come from other code."""
    preset = replace(FEW, systems=("relativistic_particle",), models=("hnn", "lnn"))
    grid.write_manifest(tmp_path, "smoke", preset)
    for one in grid.cells(preset):
        for seed in one.seeds:
            write(tmp_path, one, seed)
            change(tmp_path, one, seed, versions=identity.versions())
    return preset


def change(output, one, seed, **changes):
    """Alters what a result says of its origin; GONE: takes it away."""
    where = grid.folder(output, one.run_id(seed))
    result = results.read(where)
    provenance = {name: value for name, value in (result["provenance"] | changes).items() if value is not GONE}
    results.write(where, result | {"provenance": provenance})


OLD_NAMING = {**OLD, **dict.fromkeys(("training", "evaluation", "rows", "parts"), GONE)}
OTHERS = {
    "training 0": {"training": 0},
    "rows other": {"rows": "other"},
    "jax 0.9.0": {"versions": identity.versions() | {"jax": "0.9.0"}},
    "old naming": OLD_NAMING,
}


@pytest.mark.parametrize("other", OTHERS)
def test_two_origins_within_a_cell_are_refused_and_said(tmp_path, other):
    preset = folder_of(tmp_path)
    one = grid.Cell(preset, "relativistic_particle", "hnn")
    change(tmp_path, one, 1, **OTHERS[other])
    with pytest.raises(results.ResultsError, match=rf"hnn-s.* come from different versions of the code \(.*{other}.*\): run `python -m bench run`"):
        tables.write(tmp_path)


def test_results_of_another_jax_are_shown_compared_and_named_as_such(tmp_path):
    preset = folder_of(tmp_path)
    for seed in preset.seeds:
        change(tmp_path, grid.Cell(preset, "relativistic_particle", "hnn"), seed, versions=identity.versions() | {"jax": "0.9.0"})
    tables.write(tmp_path)
    said = "Made by other code or packages than this checkout's: relativistic_particle x hnn (made with jax 0.9.0)."
    assert list(tables.foreign(Sheet(tmp_path))) == [said]
    assert "than this checkout's" not in (tmp_path / "table.md").read_text(), "what is derived from results says the same everywhere"
    assert Runs(tmp_path).rows.keys() >= {("relativistic_particle", "hnn"), ("relativistic_particle", "lnn")}


def test_results_of_the_old_naming_are_shown_and_named_and_not_compared_with_others(tmp_path):
    preset = folder_of(tmp_path)
    of_hnn, rest = ([c for c in grid.cells(preset) if (c.model == "hnn") == wanted] for wanted in (True, False))
    for seed in preset.seeds:
        change(tmp_path, *of_hnn, seed, **OLD_NAMING)
    tables.write(tmp_path)
    assert list(tables.foreign(Sheet(tmp_path))) == ["Made by other code or packages than this checkout's: relativistic_particle x hnn (old naming)."]
    with pytest.raises(results.ResultsError, match="different versions of the code"):
        Runs(tmp_path)
    for one in rest:
        for seed in one.seeds:
            change(tmp_path, one, seed, **OLD_NAMING)
    tables.write(tmp_path)
    assert len(Runs(tmp_path).rows) == len(grid.cells(preset))
