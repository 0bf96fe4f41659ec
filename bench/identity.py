"""Names of runs and data sets: hashes of what they are made from, so that nothing stale is ever taken for fresh.

A row file counts by its content, and so do the row files that it imports. Code that all rows share counts by a declared number (`bench/train.py`,
`bench/evaluate.py`), which is raised when numbers change; tests/test_golden.py sees to that.
"""

import ast
import hashlib
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGES = ("jax", "jaxlib", "flax", "optax", "diffrax", "numpy")  # whose versions can change a result
IN_NAMES = ("jax", "jaxlib", "flax", "optax")  # those of them that compute what is learnt: part of names
ROWS = ("systems", "models")  # packages whose files without a leading underscore are rows
ACCEPTED = ROOT / "results" / "reference" / "accepted.json"  # row contents that give the same bits as older ones (`bench accept`)
# what computes numbers besides the rows: a process that computes them must have imported what was there when its grid began
SHARED = ("data", "evaluate", "evidence", "floors", "metrics", "parts", "power", "presets", "soap", "train")


# configurations -------------------------------------------------------------------------------------------------------


def told(value: Any) -> dict[str, Any]:
    """Fields of a dataclass by name, without those at the value that was meant before they came (`systems/_configuration.py`)."""
    values = {f: getattr(value, f.name) for f in fields(value)}
    return {f.name: v for f, v in values.items() if "before" not in f.metadata or v != f.metadata["before"]}


def plain(value: Any) -> Any:
    """A configuration as JSON has it: of dataclasses the class and the fields that are told, at any depth."""
    if is_dataclass(value) and not isinstance(value, type):
        return {"class": type(value).__name__, **plain(told(value))}
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def canonical(value: Any) -> str:
    """The one text of a configuration: `plain`, as JSON with sorted keys. Raises `TypeError` for what JSON has not."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(*parts: str) -> str:
    """SHA-256 of the parts, each preceded by its length."""
    h = hashlib.sha256()
    for part in parts:
        data = part.encode()
        h.update(len(data).to_bytes(8, "big") + data)
    return h.hexdigest()


# source ---------------------------------------------------------------------------------------------------------------


def syntax(source: str | bytes, name: str = "<source>") -> str:
    """What a source file says: comments, layout and strings that stand alone (docstrings) don't count, and every Python gives the same text.

    Of each node of the syntax tree its class and its fields that are not empty, by name. Raises `SyntaxError`.
    """
    return _text(ast.parse(source, name))


def _text(node: Any) -> str:
    if isinstance(node, ast.Constant):
        return f"Constant({_literal(node.value)})"
    if isinstance(node, ast.JoinedStr):
        return f"JoinedStr({_list(_pieces(node))})"
    if isinstance(node, ast.AST):
        said = {name: value for name, value in sorted(ast.iter_fields(node)) if name not in ("ctx", "kind", "type_ignores")}
        if isinstance(node, ast.FormattedValue) and isinstance(node.format_spec, ast.JoinedStr) and not _pieces(node.format_spec):
            del said["format_spec"]  # f"{x:}"
        return f"{type(node).__name__}({','.join(f'{name}={_text(v)}' for name, v in said.items() if v is not None and v not in ([], ''))})"
    return f"[{_list(node)}]" if isinstance(node, list) else _literal(node)


def _list(nodes: list) -> str:
    kept = [node for node in nodes if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str))]
    return ",".join(map(_text, kept if kept or not nodes else [ast.Pass()]))


def _pieces(node: ast.JoinedStr) -> list[ast.expr]:
    """Parts of an f-string, neighbouring literals as one: Pythons divide them differently."""
    pieces: list[ast.expr] = []
    for piece in node.values:
        if isinstance(piece, ast.Constant) and pieces and isinstance(last := pieces[-1], ast.Constant):
            pieces[-1] = ast.Constant(f"{last.value}{piece.value}")
        elif not (isinstance(piece, ast.Constant) and piece.value == ""):
            pieces.append(piece)
    return pieces


def _literal(value: Any) -> str:
    # `repr` of text depends on which signs a Python knows, that of a large whole number is refused
    return hex(value) if isinstance(value, int) and not isinstance(value, bool) else ascii(value)


@cache
def _content(path: Path) -> str:
    """Hash of what a file says, as it is when this process asks for the first time."""
    return digest(syntax(path.read_bytes(), str(path)))


@cache
def _imported(path: Path) -> frozenset[Path]:
    """Files of the packages of rows that a file of one of them imports, in any form."""
    names = {name for node in ast.walk(ast.parse(path.read_bytes(), str(path))) for name in _names(node, path)}
    known = (ROOT.joinpath(*parts[:2]).with_suffix(".py") for name in names if len(parts := name.split(".")) > 1 and parts[0] in ROWS)
    return frozenset(file for file in known if file.is_file())


def _names(node: ast.AST, path: Path) -> Iterator[str]:
    """Full names that a statement imports: of modules, or of what may be one."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        package = path.relative_to(ROOT).parts[: -node.level] if node.level else ()
        module = ".".join((*package, *([node.module] if node.module else [])))
        yield module
        yield from (f"{module}.{alias.name}" for alias in node.names)


def row_files(package: str, name: str) -> list[Path]:
    """A row file and the row files that it imports, to any depth, also by way of shared files."""
    found, left = set(), {ROOT / package / f"{name}.py"}
    while left:
        found.add(current := left.pop())
        left |= _imported(current) - found
    return sorted(path for path in found if not path.name.startswith("_"))


@cache
def content(package: str, name: str) -> str:
    """Hash of what a row's files say."""
    return digest(*(part for path in row_files(package, name) for part in (path.relative_to(ROOT).as_posix(), _content(path))))


def row(package: str, name: str) -> str:
    """What a row is called in names: the hash of its content, or of the content whose bits it was found to give by `bench accept`."""
    return accepted().get(content(package, name), content(package, name))


@cache
def accepted() -> dict[str, str]:
    """Contents of rows that are taken for others. Raises `ValueError` where the file is not what `bench accept` writes."""
    if not ACCEPTED.exists():
        return {}
    known = json.loads(ACCEPTED.read_text(encoding="utf-8"))
    if not (isinstance(known, dict) and all(isinstance(value, str) for value in known.values())):
        raise ValueError(f"{ACCEPTED} is not what bench accept writes: git restore {ACCEPTED.relative_to(ROOT)} gets it back")
    return known


def files(system: str, model: str | None) -> dict[str, str]:
    """Hash of each file that computes the numbers of a cell, by its path: rows and shared code, as they are when this process asks first."""
    paths = {*row_files("systems", system), *(row_files("models", model) if model is not None else ())}
    paths |= {path for package in ROWS for path in (ROOT / package).glob("_*.py")} | {ROOT / "bench" / f"{name}.py" for name in SHARED}
    return {path.relative_to(ROOT).as_posix(): _content(path) for path in sorted(paths)}


# where --------------------------------------------------------------------------------------------------------------


def git(*arguments: str) -> str | None:
    """What git says of this checkout; None where it can say nothing, or speaks of a repository that this folder merely lies in."""

    def say(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=20, check=True)
        return done.stdout.strip()

    try:
        return say(*arguments) if Path(say("rev-parse", "--show-toplevel")).samefile(ROOT) else None
    except (OSError, subprocess.SubprocessError):
        return None


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a result."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in PACKAGES}}


def versions_in_names() -> dict[str, str]:
    """Those of them that are part of names."""
    return {name: versions()[name] for name in IN_NAMES}


@cache
def processor() -> str:
    """Model of the processor, as far as the system tells."""
    model = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else model
    return model
