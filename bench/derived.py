"""All that is derived from the results of a folder: tables, Table 1, symmetries, published figures, pictures, animations, the report."""

import hashlib
import importlib.metadata
import json
import re
from pathlib import Path

from bench import budgets, grid, identity, published, results, symmetry, tables, ticks
from bench.table1 import TableOne

MADE_FROM = "figures/made_from.json"  # of what all this was made, and its checksums
PACKAGES = ("matplotlib", "seaborn", "numpy", "pillow")  # whose versions can change a picture


def write(output: Path) -> tuple[int, TableOne]:
    """Derives everything. Returns how many runs of the grid are missing, damaged or lost, and Table 1."""
    holes = tables.write(output) if (output / results.GRID).exists() else 0
    table = TableOne(output)
    _write_slowly(table, output)
    return holes, table


def insert(output: Path, table: TableOne, document: Path) -> None:
    """Puts the tables of errors, and Table 1, into a document between their marks. Raises `ResultsError` if it has none."""
    parts = {"table": tables.errors(output), "table1": ["", *ticks.ticks(table)]}
    text = document.read_text(encoding="utf-8") if document.exists() else ""
    found = [name for name in parts if re.search(rf"<!-- {name} -->.*<!-- /{name} -->", text, re.DOTALL)]
    if not found:
        raise results.ResultsError(f"{document} has no lines <!-- table --> and <!-- /table -->: write them where the table belongs")
    for name in found:
        (before, after) = re.split(rf"(?<=<!-- {name} -->).*(?=<!-- /{name} -->)", text, flags=re.DOTALL)
        text = before + "\n".join([*parts[name], "", ""]) + after
    results.write_atomically(document, text.encode())


def _write_slowly(table: TableOne, output: Path) -> None:
    """All but the plain tables: it takes long enough to be worth keeping while nothing changes."""
    key = _key(table, output)
    if _is_fresh(output, key):
        return
    from bench import figures, films, report  # plotting is slow to import

    ticks.write(table, output)
    symmetry.write(table)
    drawings = [*films.all_of(table), *figures.all_of(table)]
    if (output / results.PUBLISHED).exists():
        page = published.write(output)
        drawings += filter(None, [budgets.draw(page.of, page.preset)])
    figures.write(drawings, output)
    animations = films.animations(table, output)
    report.write(table, drawings, output)
    written = ["table1.md", "table1.csv", "table1.tex", "symmetry.md"]
    written += [name for name in ("published.md", "published.csv") if (output / results.PUBLISHED).exists()]
    written += [*(f"figures/{made.name}.svg" for made in drawings), *(f"figures/{path.name}" for path in animations), "report.html"]
    files = {name: _checksum(output / name) for name in written}
    results.write_json(output / MADE_FROM, {"key": key, "files": files})


def _key(table: TableOne, output: Path) -> str:
    """Hash of all that pictures and report depend on: results by their checksums, manifests, code, versions."""
    rows, _ = grid.read_all(output)
    made_from = sorted(row.get("sha256") or json.dumps(row, sort_keys=True) for row in rows) + [
        _checksum(output / file) for file in grid.manifests(output)
    ]
    code = [path.read_text(encoding="utf-8") for folder in ("bench", "systems", "models") for path in sorted((identity.ROOT / folder).glob("*.*"))]
    return identity.digest(*made_from, *code, *(importlib.metadata.version(name) for name in PACKAGES))


def _is_fresh(output: Path, key: str) -> bool:
    try:
        made = json.loads((output / MADE_FROM).read_text(encoding="utf-8"))
        return made["key"] == key and all(_checksum(output / name) == checksum for name, checksum in made["files"].items())
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
