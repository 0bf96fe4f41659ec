"""Trains each model on each system, measures, and tabulates; the only place that sees both.

`load` gives a trained model back; all else is the command line, `python -m bench`.
"""

from pathlib import Path

__all__ = ["load"]


def load(output: str | Path, system: str, model: str, seed: int = 0):
    """(model, system) of a finished run in a results folder such as results/latest/laptop.

    Raises `ResultsError` if there is no such run or its parameters are damaged, `FileNotFoundError` if it has none (committed references).
    """
    from bench import checkpoints, grid, presets, results, train
    from models import Scales

    output = Path(output)
    manifest, (rows, _) = grid.read_manifest(output, grid.manifests(output)[0]), grid.read_all(output)
    found = [r for r in rows if (r["system"], r["model"], r["seed"]) == (system, model, seed) and r["status"] not in results.LOST]
    if not found:
        there = sorted({f"{r['system']} {r['model']} {r['seed']}" for r in rows if r["seed"] is not None})
        raise results.ResultsError(f"no finished run of {system} {model} seed {seed} in {output}; there are: {', '.join(there) or 'none'}")
    cell = grid.Cell(presets.Preset(**manifest["preset"]), system, model)
    scales = Scales(**results.tuples(found[0]["scales"]))
    like = train.initial(cell.get_model(), cell.get_system().spec, cell.get_settings(), scales, seed)
    where = grid.folder(output, found[0]["run"]) / results.PARAMETERS
    if not where.is_dir():
        raise FileNotFoundError(f"no parameters in {where}: committed references hold results only; run the benchmark to train them here")
    try:
        trained, _ = checkpoints.restore(where, like, found[0]["run"])
    except ValueError as error:
        raise results.ResultsError(f"{error}: delete {where} and run the benchmark again") from error
    if checkpoints.digest(trained) != found[0]["parameters"]:
        raise results.ResultsError(f"the parameters in {where} are not those of its result: delete its folder and run the benchmark again")
    return trained, cell.get_system()
