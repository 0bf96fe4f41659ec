"""Trains each model on each system, measures, and tabulates; the only place that sees both.

`load` gives a trained model back; all else is the command line, `python -m bench`.
"""

from pathlib import Path

__all__ = ["load"]


def load(output: str | Path, system: str, model: str, seed: int = 0):
    """(model, system) of a finished run in a results folder such as results/latest/laptop.

    Raises `ResultsError` if there is no such run, `FileNotFoundError` if it has no parameters (committed references have none).
    """
    from bench import grid, parameters, presets, results, train
    from models import Scales

    output = Path(output)
    manifest, rows, _ = grid.read_grid(output)
    found = [r for r in rows if (r["system"], r["model"], r["seed"]) == (system, model, seed) and r["status"] != "failed"]
    if not found:
        there = sorted({f"{r['system']} {r['model']} {r['seed']}" for r in rows if r["seed"] is not None})
        raise results.ResultsError(f"no finished run of {system} {model} seed {seed} in {output}; there are: {', '.join(there) or 'none'}")
    cell = grid.Cell(presets.Preset(**results.tuples(manifest["preset"])), system, model)
    scales = Scales(**results.tuples(found[0]["scales"]))
    like = train.initial(cell.get_model(), cell.get_system().spec, cell.get_settings(), scales, seed)
    return parameters.restore(grid.folder(output, found[0]["run"]) / results.PARAMETERS, like), cell.get_system()
