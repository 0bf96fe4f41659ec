"""Names of runs and data sets: hashes of what they are made from, so that nothing stale is ever taken for fresh."""

import ast
import hashlib
import importlib.metadata
import json
import platform
import subprocess
from dataclasses import asdict, is_dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("jax", "jaxlib", "flax", "optax", "diffrax", "numpy")  # whose versions can change a result
DATA_CODE = ("bench/data.py",)
TRAINING_CODE = (*DATA_CODE, "bench/train.py")
EVALUATION_CODE = ("bench/evaluate.py", "bench/evidence.py", "bench/floors.py", "bench/metrics.py", "bench/power.py")


def canonical(value) -> str:
    """The one text of a configuration: JSON with sorted keys, of dataclasses the class and every field."""

    def encode(value):
        if is_dataclass(value) and not isinstance(value, type):
            return {"class": type(value).__name__, **asdict(value)}
        raise TypeError(f"{value!r} has no canonical text")

    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=encode, allow_nan=False)


def digest(*parts: str) -> str:
    """SHA-256 of the parts, each preceded by its length."""
    h = hashlib.sha256()
    for part in parts:
        data = part.encode()
        h.update(len(data).to_bytes(8, "big") + data)
    return h.hexdigest()


@cache
def _syntax(path: Path) -> str:
    """The syntax tree of a file without docstrings: comments, layout and documentation don't count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree)


@cache
def _with_imports(path: Path) -> frozenset[Path]:
    """A row file and the row files of its own package that it imports, to any depth."""
    found, left = set(), {path}
    while left:
        current = left.pop()
        found.add(current)
        for node in ast.walk(ast.parse(current.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                imported = ROOT / (node.module.replace(".", "/") + ".py")
                if imported.exists() and imported not in found:
                    left.add(imported)
    return frozenset(p for p in found if p.parent == path.parent)


@cache
def code(system: str, model: str | None, files: tuple[str, ...]) -> str:
    """Hash of the infrastructure of systems/, of models/ where there is a model, of the two rows, and of `files` of bench/."""
    paths = {*(ROOT / "systems").glob("_*.py"), *_with_imports(ROOT / "systems" / f"{system}.py"), *(ROOT / f for f in files)}
    if model is not None:
        paths |= {*(ROOT / "models").glob("_*.py"), *_with_imports(ROOT / "models" / f"{model}.py")}
    return digest(*(part for path in sorted(paths) for part in (path.relative_to(ROOT).as_posix(), _syntax(path))))


@cache
def shared_code() -> str:
    """Hash of all that trains and evaluates but the rows: runs of one table must agree in it."""
    packages = [path for package in ("systems", "models") for path in (ROOT / package).glob("_*.py")]
    paths = sorted({*packages, *(ROOT / f for f in (*TRAINING_CODE, *EVALUATION_CODE))})
    return digest(*(part for path in paths for part in (path.relative_to(ROOT).as_posix(), _syntax(path))))


def git(*arguments: str) -> str | None:
    """What git says of this checkout; None where it can say nothing."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a result."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in PACKAGES}}


@cache
def processor() -> str:
    """Model of the processor, as far as the system tells."""
    model = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else model
    return model
