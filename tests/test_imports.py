"""Imports point one way, systems <- models <- bench, and rows are found by looking at the folder."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import models
import systems
from systems._rows import UnknownName

ROOT = Path(__file__).parents[1]
PACKAGES = {"systems": systems, "models": models}


def files(package):
    return pytest.mark.parametrize("path", [pytest.param(p, id=str(p.relative_to(ROOT))) for p in sorted((ROOT / package).rglob("*.py"))])


def imported(path: Path) -> set[str]:
    """Dotted names of all that a file imports, at its top or within functions."""
    return imported_by(path.read_text(), str(path))


def imported_by(code: str, path: str) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import by full name"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@files("systems")
def test_physics_knows_nothing_of_learning(path):
    assert not {name for name in imported(path) if name.split(".")[0] in ("models", "bench")}


@files("models")
def test_models_know_no_concrete_system_and_no_benchmark(path):
    names = {tuple(name.split(".")) for name in imported(path)}
    assert not {name for name in names if name[0] == "bench"}
    physics = {name for name in systems.__all__ if name not in ("get", "names")}  # these two lead to rows
    assert not {name for name in names if name[0] == "systems" and not (len(name) > 1 and (name[1].startswith("_") or name[1] in physics))}


@files("bench")
def test_the_benchmark_names_no_row(path):
    rows = {(package, row) for package, module in PACKAGES.items() for row in module.names()}
    assert not {name for name in imported(path) if tuple(name.split(".")[:2]) in rows}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_file_without_underscore_is_a_row_and_nothing_else_is(package):
    found = {path.stem for path in (ROOT / package).glob("*.py") if not path.name.startswith("_")}
    assert found == set(PACKAGES[package].names())
    for name in found:
        row = PACKAGES[package].get(name)
        assert isinstance(row, systems.System) if package == "systems" else issubclass(row, models.Model)


ROWS = [(path, path.read_text()) for package in PACKAGES for path in sorted((ROOT / package).glob("[!_]*.py"))]
DOCUMENTS = (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))
SHOWN = [(path, code) for path in DOCUMENTS for code in re.findall(r"```python[^\n]*\n(.*?)```", path.read_text(), re.DOTALL)]


@pytest.mark.parametrize(("path", "code"), [pytest.param(*found, id=f"{found[0].name}-{i}") for i, found in enumerate([*ROWS, *SHOWN])])
def test_a_row_and_the_code_of_a_document_take_nothing_from_a_file_with_an_underscore(path, code):
    assert not {name for name in imported_by(code, str(path)) if any(part.startswith("_") for part in name.split("."))}


def test_documents_show_code_and_packages_export_what_they_say():
    assert len(SHOWN) >= 3
    for package, module in PACKAGES.items():
        assert sorted(module.__all__) == list(module.__all__), package
        assert all(hasattr(module, name) for name in module.__all__)


@pytest.mark.parametrize("package", PACKAGES)
def test_an_unknown_name_is_told_the_choices(package):
    module = PACKAGES[package]
    with pytest.raises(UnknownName, match="'nonsense'") as raised:
        module.get("nonsense")
    assert all(name in str(raised.value) for name in module.names())
    with pytest.raises(UnknownName):
        module.get("_rows")


def test_a_worker_imports_no_numbers_before_its_threads_are_set():
    code = "import bench.worker, sys; print([name for name in ('jax', 'numpy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
