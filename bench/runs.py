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
    """Raises `ResultsError` unless all runs come from one preset, and those of a cell from one version of the code."""
    trained = [row for row in rows if row["seed"] is not None]
    for row in trained:
        if row["configuration"].get("preset") != trained[0]["configuration"].get("preset"):
            raise results.ResultsError(f"{row['run']} and {trained[0]['run']} come from different presets: give a folder with one")
    for row in rows:
        shared, others = (r["provenance"].get("shared_code") for r in (row, rows[0]))
        if shared != others:
            raise results.ResultsError(
                f"{row['run']} and {rows[0]['run']} come from different versions of the code: run `python -m bench run` again on one"
            )
    seen: dict[tuple, tuple] = {}
    for row in rows:
        code = row["provenance"]["training_code"], row["provenance"]["evaluation_code"]
        first = seen.setdefault((row["system"], row["model"]), (code, row["run"]))
        if first[0] != code:
            raise results.ResultsError(
                f"{row['run']} and {first[1]} come from different versions of the code: run `python -m bench table1` again on one"
            )
