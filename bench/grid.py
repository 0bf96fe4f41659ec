"""A grid: which runs a preset asks for, what each is called, and which of them are there."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, get_type_hints

import jax
from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

import models
import systems
from bench import evaluate, identity, parts, results, train
from bench.data import DATA_FIELDS
from bench.floors import FLOORS
from bench.presets import OF_THE_GRID, Preset, filled
from models import Model
from systems._system import System

VERSIONS = "versions of the code ({}): run `python -m bench run` again on one"
EXECUTION = "a loop in chunks, float32"


class Changed(RuntimeError):
    """What this process imported is not what a cell's runs are named after."""


@dataclass(frozen=True)
class Cell:
    """One model (or floor) on one system, under one preset."""

    preset: Preset
    system: str
    model: str

    @property
    def is_floor(self) -> bool:
        return self.model in FLOORS

    def shown(self, seed: int | None) -> bool:
        """Whether the speed of this run is measured, and its motion kept to be drawn: of a model's first seed, and of the truth itself."""
        return FLOORS[self.model].coarsened if self.is_floor else seed == self.preset.seeds[0]

    @property
    def inapplicable(self) -> str:
        """Why its model cannot be asked to learn its system; "" where it can."""
        return "" if self.is_floor else self.get_model().applies(self.get_system())

    @property
    def seeds(self) -> tuple[int | None, ...]:
        """Seeds of its runs; a floor has no seed and one run."""
        return (None,) if self.is_floor else self.preset.seeds

    def get_system(self) -> System:
        return systems.get(self.system, self.preset.constants)

    def get_model(self) -> type[Model]:
        return models.get(self.model)

    def get_settings(self):
        """The model's hyper-parameters under this preset."""
        return self.preset.settings(self.get_model())

    def configuration(self) -> dict:
        """All that a run of this cell depends on, but for its seed and the code."""
        system = self.get_system()
        preset = {name: value for name, value in identity.told(self.preset).items() if name not in OF_THE_GRID}
        if self.is_floor:
            return {"preset": {name: value for name, value in preset.items() if name in DATA_FIELDS}, "system": system, "recording": system.recording}
        return {"preset": preset, "system": system, "recording": system.recording, "settings": self.get_settings()}

    @cached_property
    def rows(self) -> tuple[str, ...]:
        """What its system and its model are called in names: by their content."""
        model = () if self.is_floor else (identity.row("models", self.model),)
        return identity.row("systems", self.system), *model

    @cached_property
    def files(self) -> dict[str, str]:
        """The files that compute its numbers, by what they said when this was first asked: where a worker finds another text, it refuses."""
        return identity.files(self.system, None if self.is_floor else self.model)

    @property
    def code(self) -> dict[str, Any]:
        """What a result says of the code that made it: its rows, the numbers of all shared code, and those of parts of the evaluation."""
        numbers = {"training": train.TRAINING, "evaluation": evaluate.EVALUATION}
        return {**numbers, "parts": parts.numbers(self), "rows": identity.digest(*self.rows)}

    def refuse_changed(self) -> None:
        """Raises `Changed` unless the files that this process has imported are those that the process knew which sent the cell here.

        A file is looked at once, after its import: what is saved to it later doesn't run here.
        """
        try:
            self.get_system()
            if not self.is_floor:
                self.get_model()
            here = identity.files(self.system, None if self.is_floor else self.model)
        except (SyntaxError, OSError) as error:  # there it could be read
            raise Changed(f"{error.filename} has changed since the run began ({error}): run again") from error
        if different := sorted(path for path in here.keys() | self.files.keys() if here.get(path) != self.files.get(path)):
            raise Changed(f"{', '.join(different)} has changed since the run began: run again")

    @property
    def execution(self) -> str:
        """How its programs are compiled and run."""
        programs = "one program for all seeds" if _all_seeds_at_once() else "one program a seed"
        return f"{programs}, {EXECUTION}{', compiled in haste' * self.preset.haste}"

    def programs(self, seeds: tuple) -> list[tuple]:
        """Seeds that are trained in one program: a GPU has room for all of them, on a CPU one after the other is as fast."""
        return [seeds] if _all_seeds_at_once() else [(seed,) for seed in seeds]

    def run_id(self, seed: int | None) -> str:
        """Name of a run: readable, and a hash of configuration, rows, number of the shared code, versions, kind of device and execution mode."""
        device = jax.devices()[0].device_kind
        made_from = [self.configuration(), self.rows, train.TRAINING, identity.versions_in_names(), device, self.execution]
        key = identity.digest(identity.canonical(made_from), str(seed))[:12]
        return "-".join([self.system, self.model, *([] if seed is None else [f"s{seed}"]), key])


def _all_seeds_at_once() -> bool:
    return jax.default_backend() != "cpu"


def applicable(cells: Iterable[Cell]) -> list[Cell]:
    """Those that can be run: cells whose model does not apply to their system are no part of a grid."""
    return [cell for cell in cells if not cell.inapplicable]


def cells(preset: Preset) -> list[Cell]:
    """All cells that can be run, floors first within a system, the rest in the preset's order."""
    rows = []
    for system in preset.systems:
        floors = [name for name, floor in FLOORS.items() if floor.applies(systems.get(system, preset.constants))]
        rows += [Cell(preset, system, model) for model in (*floors, *preset.models)]
    return applicable(rows)


def folder(output: Path, run_id: str) -> Path:
    """Where a run lives in a results folder."""
    return output / "runs" / run_id


def state(output: Path, cell: Cell, seed: int | None) -> str:
    """`missing`, `evaluate` (trained, its metrics missing or stale), `measure` (its speed not measured) or `done`.

    Raises `ResultsError` for what another version wrote, `DamagedResult` for damage.
    """
    where = folder(output, cell.run_id(seed))
    untrained = "evaluate" if (where / results.PARAMETERS).is_dir() else "missing"
    if not results.exists(where):
        return untrained
    result = results.read(where)
    if result["run"] != where.name:
        raise results.DamagedResult(f"{where / results.RESULT} is the result of another run, {result['run'][:80]}: `bench run` makes it again")
    if result["status"] in results.LOST or parts.missing(result["provenance"], cell):
        return untrained
    return "measure" if cell.shown(seed) and not result["speed"] else "done"


def write_manifest(output: Path, name: str, preset: Preset, rows: list[Cell] | None = None, file: str = results.GRID) -> None:
    """`grid.json`: which runs make up the table of a results folder, in order; of some cells only, where `rows` gives them."""
    runs = [cell.run_id(seed) for cell in rows or cells(preset) for seed in cell.seeds]
    values = {f.name: getattr(preset, f.name) for f in fields(preset)}
    results.write_sealed(output / file, {"name": name, "preset": values, "runs": runs})


def read_manifest(output: Path, file: str = results.GRID) -> dict:
    """Name, preset (fields by name) and runs of a results folder. Raises `ResultsError`."""
    path = output / file
    manifest = results.read_sealed(path, "grid")
    results.check_schema(path, manifest, results.Grid)
    manifest["preset"] = filled(manifest["preset"])
    types = get_type_hints(Preset)
    for name, value in manifest["preset"].items():
        try:
            if name not in types:
                raise TypeCheckError("it has no such field")
            check_type(value, types[name], collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
        except TypeCheckError as error:
            raise results.ResultsError(f"{path} has a preset with {name} = {str(value)[:40]!r}, which this version cannot read ({error})") from error
    return manifest


def manifests(output: Path, files: tuple[str, ...] = results.MANIFESTS) -> list[str]:
    """Files of a results folder that name its runs: those of `files` that are there, `grid.json` where there is none."""
    there = [file for file in files if (output / file).exists()]
    return there or [results.GRID]


def read_all(output: Path) -> tuple[list[dict], dict[str, str]]:
    """(results that are there, why by name of those that are not), of all that a results folder names. Raises `ResultsError`."""
    rows, holes = {}, {}
    for file in manifests(output):
        _, found, absent = read_grid(output, file)
        rows |= {row["run"]: row for row in found}
        holes |= absent
    return list(rows.values()), holes


def read_grid(output: Path, file: str = results.GRID) -> tuple[dict, list[dict], dict[str, str]]:
    """(manifest, results that are there, why by name of those that are not) of a results folder. Raises `ResultsError`."""
    manifest = read_manifest(output, file)
    rows, holes = [], {}
    for run in manifest["runs"]:
        where = folder(output, run)
        if not results.exists(where):
            holes[run] = "missing: it has not been run"
            continue
        try:
            result = results.read(where)
            if result["run"] != run:
                raise results.DamagedResult(f"{where / results.RESULT} is the result of another run: `bench run` makes it again")
        except results.DamagedResult as error:
            holes[run] = f"damaged: {error}"
        else:
            rows.append(result)
    return manifest, rows, holes


def refuse_mixed(rows: list[dict], of: Callable[[dict], Any], what: str, within: Callable[[dict], Any] = lambda row: None) -> None:
    """Raises `ResultsError`, with the names of two runs, where runs that agree in `within` differ in what they are made `of`.

    A `{}` in `what` becomes what each of the two is made of.
    """
    first: dict[Any, dict] = {}
    for row in rows:
        other = first.setdefault(within(row), row)
        if of(row) != of(other):
            raise results.ResultsError(f"{row['run']} and {other['run']} come from different {what.format(f'{of(row)}; {of(other)}')}")


def refuse_mixed_code(rows: list[dict]) -> None:
    """The same, where the runs of a cell come from different versions of the code, or of packages that are part of names."""

    def cell(row: dict) -> tuple[str, str]:
        return row["system"], row["model"]

    refuse_mixed(rows, lambda row: _code(row["provenance"]), VERSIONS, cell)
    refuse_mixed([row for row in rows if row["status"] not in results.LOST], lambda row: _packages(row["provenance"]), VERSIONS, cell)


def shared(row: dict) -> str:
    """Which shared code a result comes from: runs that are compared with each other must agree in it."""
    provenance = row["provenance"]
    if results.of_old_naming(provenance):
        return f"old naming {provenance.get('shared_code', '')[:10]}".strip()
    return f"training {provenance['training']}, evaluation {provenance['evaluation']}"


def _code(provenance: dict) -> str:
    if results.of_old_naming(provenance):
        return f"old naming {provenance['training_code'][:10]} {provenance['evaluation_code'][:10]}"
    return f"{shared({'provenance': provenance})}, rows {provenance['rows'][:10]}"


def _packages(provenance: dict) -> str:
    return ", ".join(f"{name} {version}" for name, version in provenance["versions"].items() if name in identity.IN_NAMES)


def unlike(row: dict, cell: Cell) -> str:
    """In what the code that made a result differs from what this checkout would use for its cell; nothing where it doesn't."""
    made, now = row["provenance"], cell.code
    if results.of_old_naming(made):
        differences = ["old naming"]
    else:
        differences = [f"{name} {made[name]}, now {now[name]}" for name in ("training", "evaluation") if made[name] != now[name]]
        differences += ["other rows"] if made["rows"] != now["rows"] else []
    there = made["versions"]
    differences += [
        f"made with {name} {there[name]}" for name, version in identity.versions_in_names().items() if there.get(name, version) != version
    ]
    return "; ".join(differences)
