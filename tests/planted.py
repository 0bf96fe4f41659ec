"""A results folder whose numbers are planted: as workers write it, but that nothing was trained."""

from dataclasses import replace

import numpy as np

import systems
from bench import grid, published, results, table1
from bench.data import DATA_FIELDS
from bench.floors import FLOORS
from bench.measure import coarse
from bench.presets import PRESETS
from bench.verdicts import ENOUGH
from bench.worker import MOTION

PRESET = replace(PRESETS["smoke"], seeds=tuple(range(ENOUGH)))
FEW = replace(PRESET, seeds=(0, 1))
UNITS, STEPS, FRAMES = 12, (4, 2, 1), 20
ENERGETIC = ("hnn", "hnn_naive", "delan", "lnn")


def write(output, cell, seed, error=0.01, status="finished", **changes):
    """The result of a run whose errors are all the same."""
    made = {"commit": None, "dirty": None, "device": "cpu", "platform": "Linux", "versions": {"jax": "0", "python": "3"}}
    code = {**cell.code, "attempt": 1, "resumed_at": []}
    result = {"run": cell.run_id(seed), "system": cell.system, "model": cell.model, "seed": seed, "status": status, "speed": {}}
    preset = {name: value for name, value in cell.preset.of_a_run().items() if name in DATA_FIELDS or not cell.is_floor}
    result["configuration"] = {"recording": {"starts": UNITS}, "preset": preset}
    names = "field_error", "acceleration_error", "acceleration_l1", "rollout_error", "energy_error_last_mean", "energy_error_last_median"
    result["metrics"] = {**dict.fromkeys((*names, "energy_error_mean"), error), "valid_time": 350.0, "diverged_rollouts": 0}
    if cell.shown(seed):
        result["speed"] = {"rollout_states_per_second": 1e5, **({coarse(n): 1e5 / n for n in STEPS} if cell.is_floor else {})}
    result |= {"provenance": made | code} | changes
    curves = {name: values for name, values in _curves(cell, error).items() if cell.shown(seed) or name not in MOTION}
    results.write(grid.folder(output, result["run"]), result, curves)


def _curves(cell, error) -> dict[str, np.ndarray]:
    spread = 1 + 0.01 * np.arange(UNITS)
    curves = {
        "time": np.array([1.0, 20.0, 100.0]),
        "energy_error": np.full((UNITS, 3), 1e-6 if cell.is_floor else error * 0.1),
        "rollout_error_of_start": error * spread,
        "interval_error": error * np.ones((4, 1)) * spread,
        "interval_change": np.ones((4, UNITS)),
        "prediction_time": 0.5 * (1 + np.arange(FRAMES)),
        "prediction": _film(cell.system, error),
    }
    if cell.is_floor:
        if FLOORS[cell.model].coarsened:
            curves |= {
                "coarse_substeps": np.array(STEPS),
                "coarse_rollout_error": 1e-6 / np.array(STEPS),
                "coarse_energy_error": np.array([1e-6, 1e-4, np.inf]),
            }
        return curves
    curves |= {"training_step": np.array([10, 20]), "training_train_loss": np.array([1.0, error])}
    if cell.model != "mlp":
        curves |= {"acceleration_error": error * spread, "acceleration_size": np.ones(UNITS)}
        physics = systems.get(cell.system)
        changes = {"energy": error, **dict.fromkeys(physics.symmetries(), error), **dict.fromkeys(physics.false_symmetries(), 0.5)}
        for name, change in changes.items():
            curves |= {f"kept_{name}_change": np.full(UNITS, change), f"kept_{name}_exchange": np.ones(UNITS)}
            if cell.model in ENERGETIC:
                own = 0.0 if name == "energy" else change
                curves |= {f"charge_{name}_change": np.array([[own], [change]]) * np.ones(UNITS), f"charge_{name}_exchange": np.ones((2, UNITS))}
    return curves


def _film(name: str, error: float) -> np.ndarray:
    """A motion that is off by `error`: [time, 2, dof], of a ring the field alone."""
    lattice, dof = systems.get(name).spec.lattice, systems.get(name).spec.dof
    motion = 0.4 * np.sin(0.3 * np.arange(FRAMES)[:, None, None] + np.arange(30 if lattice else dof) + np.zeros((1, 1 if lattice else 2, 1)))
    return motion + 0.1 * error


def cells(preset=PRESET):
    """Of Table 1."""
    return table1.cells(preset)


def error_of(cell) -> float:
    """0.01, but for the naive network's, 0.3, and DeLaN's on a kinetic energy that is quartic, 0.2."""
    return {"hnn_naive": 0.3}.get(cell.model, 0.2 if (cell.model, cell.system) == ("delan", "quartic_particle") else 0.01)


def fill_table1(output, preset=PRESET):
    """All runs of Table 1."""
    grid.write_manifest(output, "smoke", preset, cells(preset), results.TABLE1)
    for cell in cells(preset):
        for seed in cell.seeds:
            write(output, cell, seed, error_of(cell))


def fill_everything(output, preset=PRESET):
    """Those of the grid and of published figures, too."""
    fill_table1(output, preset)
    grid.write_manifest(output, "smoke", preset)
    for cell in (*grid.cells(preset), *published.cells(preset)):
        for seed in cell.seeds:
            if not (grid.folder(output, cell.run_id(seed)) / results.RESULT).exists():
                write(output, cell, seed, error_of(cell))
    grid.write_manifest(output, "smoke", preset, published.cells(preset), results.PUBLISHED)
