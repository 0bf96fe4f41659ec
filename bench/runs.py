"""All runs of one results folder, those of `make bench` and those of Table 1 together: what figures and verdicts are derived from."""

from pathlib import Path

from bench import grid, results
from bench.claims import Curves

EVIDENCE = "interval_error"  # a curve that every run has which was evaluated since there is Table 1


class Runs:
    """Results by system, model and seed. Raises `ResultsError` where presets or versions of the code are mixed."""

    def __init__(self, output: Path):
        self.output = output
        self.rows: dict[tuple[str, str], dict[int | None, dict]] = {}
        self.asked: dict[tuple[str, str], dict[str, str]] = {}  # by cell and run: why it has no numbers, or nothing
        for file in grid.manifests(output, (results.GRID, results.TABLE1)):
            manifest, rows, holes = grid.read_grid(output, file)
            self.name, self.preset = manifest["name"], manifest["preset"]
            for run in manifest["runs"]:
                self.asked.setdefault(tuple(run.split("-")[:2]), {})[run] = holes.get(run, "")  # pyright: ignore[reportArgumentType]
            for row in rows:
                cell = row["system"], row["model"]
                self.asked[cell][row["run"]] = row["why"] if row["status"] in results.LOST else ""
                if row["status"] not in results.LOST:
                    self.rows.setdefault(cell, {})[row["seed"]] = row
        _refuse_mixed([row for cell in self.rows.values() for row in cell.values()])
        self._curves: dict[tuple[str, str], list[Curves]] = {}

    def of_cell(self, model: str, system: str) -> list[dict]:
        """Results of each seed, in order."""
        return [row for _, row in sorted(self.rows.get((system, model), {}).items(), key=lambda item: item[0] or 0)]

    def curves(self, model: str, system: str) -> list[Curves]:
        """Of each seed, in order; empty where the training diverged."""
        if (model, system) not in self._curves:
            self._curves[model, system] = [self._curves_of(row) for row in self.of_cell(model, system)]
        return self._curves[model, system]

    def _curves_of(self, row: dict) -> Curves:
        return results.curves(grid.folder(self.output, row["run"]), row) if row["status"] == "finished" else {}


def _refuse_mixed(rows: list[dict]) -> None:
    """Raises `ResultsError` unless all runs come from one preset and one version of what all of them share, and those of a cell from one version."""
    trained = [row for row in rows if row["seed"] is not None]
    grid.refuse_mixed(trained, lambda row: row["configuration"].get("preset"), "presets: give a folder with one")
    grid.refuse_mixed(rows, grid.shared, grid.VERSIONS)
    grid.refuse_mixed_code(rows)
