"""Trains each model on each system, measures, and tabulates; the only place that sees both.

`load` gives a trained model back, `trained` says of which there is one; all else is the command line, `python -m bench`.
"""

from pathlib import Path

__all__ = ["load", "trained"]


def load(output: str | Path, system: str, model: str, seed: int = 0):
    """(model, system) of a finished run in a results folder such as results/reference/laptop.

    Raises `ResultsError` if there is no such run or its parameters are damaged, `FileNotFoundError` if they were not kept (of committed results
    those of one seed of each cell are).
    """
    from bench import checkpoints, grid, presets, results, train
    from models import Scales

    output = Path(output)
    manifests = [grid.read_manifest(output, file) for file in grid.manifests(output)]
    named = (grid.folder(output, run) for of in manifests for run in of["runs"] if run.startswith(f"{system}-{model}-s{seed}-"))
    found = [row for row in map(results.read, filter(results.exists, named)) if row["status"] not in results.LOST]
    if not found:
        rows, _ = grid.read_all(output)
        there = sorted({f"{r['system']} {r['model']} {r['seed']}" for r in rows if r["seed"] is not None})
        raise results.ResultsError(f"no finished run of {system} {model} seed {seed} in {output}; there are: {', '.join(there) or 'none'}")
    cell = grid.Cell(presets.Preset(**manifests[0]["preset"]), system, model)
    scales = Scales(**results.tuples(found[0]["scales"]))
    like = train.initial(cell.get_model(), cell.get_system().spec, cell.get_settings(), scales, seed)
    run = grid.folder(output, found[0]["run"])
    try:
        leaves = checkpoints.parameters(run)
        if leaves is None:
            others = [str(s) for a, b, s in trained(output) if (a, b) == (system, model)]
            there = f"there are those of seed {', '.join(others)}" if others else "run the benchmark to train them here"
            raise FileNotFoundError(f"no parameters in {output} of {system} {model} seed {seed}: {there}")
        loaded = checkpoints.assemble(leaves, like)
    except ValueError as error:
        raise results.ResultsError(f"{error}: delete {run / results.PARAMETERS} and run the benchmark again") from error
    if checkpoints.digest(loaded) != found[0]["parameters"]:
        raise results.ResultsError(f"the parameters in {run} are not those of its result: delete its folder and run the benchmark again")
    return loaded, cell.get_system()


def trained(output: str | Path) -> list[tuple[str, str, int]]:
    """(system, model, seed) of all runs of the plain grid and of Table 1 whose parameters are in a results folder: what `load` can load.

    Raises `ResultsError`.
    """
    from bench import grid, packed, results

    rows = [row for file in grid.manifests(Path(output), (results.GRID, results.TABLE1)) for row in grid.read_grid(Path(output), file)[1]]
    found = {}
    for row in rows:
        run = grid.folder(Path(output), row["run"])
        if row["seed"] is not None and ((run / results.PARAMETERS).is_dir() or packed.parameters(run) is not None):
            found[row["system"], row["model"], row["seed"]] = None
    return list(found)
