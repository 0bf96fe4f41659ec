"""Golden numbers: what a short training of a cell must give again, and the evaluation of kept parameters over the first second.

tests/golden/ holds them with the numbers of the shared code that gave them (`TRAINING`, `EVALUATION`) and with their spread: how far they move when
first weights move by one unit in the last place, and when the compiler uses other instructions. A number may be off by `MULTIPLE` times its spread.
What is evaluated is not what was just trained, since a training lets rounding grow until a fault of one per cent is lost in it, but the parameters
that the committed reference holds of the cell, whose digest stands beside the numbers.
`python -m bench.golden CELL ...` prints numbers, as lines of JSON; `python -m bench accept --golden` writes the files.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np

import bench
import models
import systems
from bench import cases, checkpoints, data, evaluate, grid, identity, results, table1, train
from bench.data import DataSet, Evaluation
from bench.evaluate import Evaluator
from bench.floors import FLOORS
from bench.presets import PRESETS
from bench.train import Snapshot, Trainer
from bench.worker import environment

FOLDER = identity.ROOT / "tests" / "golden"
SHIPPED = identity.ROOT / "results" / "reference" / "laptop"  # whose parameters are evaluated
# warm-up, cosine, and what depends on progress take part; at the models' own rates rounding grows too fast for a fault of one per cent to be seen
PRESET = replace(PRESETS["laptop"], steps=60, warmup=5, chunk=20, learning_rate=1e-3)
CELLS = (  # one of each kind of model, one of each kind of system
    "lnn on double_pendulum",
    "delan on wave",
    "neural_ode on relativistic_particle",
    "hnn on relativistic_particle",
    "mlp on double_pendulum",
)
DATA = "data of relativistic_particle"
MULTIPLE = 10  # of the spread: processors differ in more than what is tried here
LEAST = 1e-6  # of a number's size: a spread below counts as this
NUDGES = 4  # trainings whose first weights are moved by a unit in the last place
# what the compiler does otherwise on another processor, or when asked for haste
COMPILERS = ("", "--xla_cpu_max_isa=SSE4_2", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")
Numbers = dict[str, list[float]]


def all_cells() -> tuple[str, ...]:
    """Every cell of `make bench` and of Table 1, and the data."""
    preset = PRESETS["laptop"]
    found = {f"{cell.model} on {cell.system}": None for cell in (*grid.cells(preset), *table1.cells(preset)) if not cell.is_floor}
    return *found, DATA


@dataclass(frozen=True)
class Short:
    """A cell that is trained and evaluated briefly, several times with one compilation."""

    trainer: Trainer
    evaluator: Evaluator

    def training(self, nudge: int = 0) -> Numbers:
        """Losses of all steps, sizes of all parameters."""
        model, losses = self.trained(nudge)
        sizes = [float(np.linalg.norm(leaf)) for leaf in jax.tree.leaves(model)]
        return {**{f"losses, {i + 1} of 3": third.tolist() for i, third in enumerate(np.array_split(losses, 3))}, "sizes of parameters": sizes}

    def evaluation(self, model) -> Numbers:
        """Metrics, and means of curves."""
        metrics, curves = self.evaluator(model)
        means = {name: float(np.mean(values[np.isfinite(values)])) for name, values in curves.items()}
        return {name: [float(value)] for name, value in {**means, **metrics}.items()}

    def trained(self, nudge: int = 0) -> tuple[Any, np.ndarray]:
        """(the model, the loss of each step). `nudge`: a seed, to move first weights."""
        model, state, key = self.trainer.start(0)
        if nudge:
            rng = np.random.default_rng(nudge)
            model = jax.tree.map(lambda w: np.nextafter(w, rng.choice([-np.inf, np.inf], w.shape).astype(w.dtype)), model)
        chunks = list(self.trainer.chunks((0,), [Snapshot(0, model, state, key, history={})]))
        return chunks[-1][1], np.concatenate([losses[0] for *_, losses in chunks])


@cache
def seen(system: str, constants: str = "default") -> tuple[Any, DataSet]:
    """A system, and drawn data whose evaluation is the first second of the true motion."""
    physics = systems.get(system, constants)
    drawn, frame = cases.drawn(physics, PRESET), physics.recording.evaluation_frame
    start, c, frames = drawn.evaluation.x[:, 0], drawn.evaluation.c, max(1, round(1 / frame))
    motion = Evaluator(physics, drawn).rollout(FLOORS["truth"](physics, drawn), start, c, frames, physics.recording.stride)
    reliable = np.full(len(start), frames * frame)
    return physics, replace(drawn, evaluation=Evaluation(np.concatenate([start[:, None], motion], axis=1), c, reliable))


def short(system: str, model: str, constants: str = "default", hyperparameters: str = "default") -> Short:
    """A cell, ready to be trained."""
    physics, dataset = seen(system, constants)
    preset = replace(PRESET, systems=(system,), models=(model,), constants=constants, hyperparameters=hyperparameters)
    return Short(Trainer(models.get(model), physics, dataset, preset), Evaluator(physics, dataset))


def generated(system: str, constants: str = "default") -> DataSet:
    """A few true trajectories."""
    return data.generate(systems.get(system, constants), replace(PRESET, data_share=1e-6, horizon_share=1e-6))


def of_data(system: str) -> dict[str, Numbers]:
    """Means of the first and the last states of a few true trajectories, and of all rates."""
    made = generated(system).training
    found = {"first states": made.x[:, 0], "last states": made.x[:, -1], "rates": made.rate}
    return {"training": {name: values.reshape(-1, values.shape[-2] * values.shape[-1]).mean(axis=0).tolist() for name, values in found.items()}}


def measured(cell: str, nudges: int = 0) -> Iterator[dict[str, Any]]:
    """Numbers of a cell and the digest of the parameters that were evaluated, then those of trainings with first weights moved, one after the other.

    Raises `ResultsError`, `FileNotFoundError` where the reference has no parameters of the cell.
    """
    model, _, system = cell.partition(" on ")
    if cell == DATA:
        yield of_data(cell.removeprefix("data of "))
        return
    run = short(system, model)
    shipped, _ = bench.load(SHIPPED, system, model)
    evaluated = {"evaluation": run.evaluation(shipped), "parameters": checkpoints.digest(shipped)}
    yield from ({"training": run.training(nudge), **evaluated} for nudge in range(nudges + 1))


# files ----------------------------------------------------------------------------------------------------------------


def path(cell: str) -> Path:
    """Where the numbers of a cell are kept."""
    return FOLDER / f"{cell.replace(' ', '_')}.json"


def write(cell: str, found: list[dict[str, Any]]) -> None:
    """Keeps the first of what was found, with the spread of all."""
    parameters = found[0].get("parameters")
    first, *others = ({part: of for part, of in one.items() if part != "parameters"} for one in found)

    def spread_of(part: str, name: str, values: list[float]) -> list[float]:
        distances = [[0.0 if a == b else abs(a - b) for a, b in zip(other[part][name], values, strict=True)] for other in others]
        return np.max(distances, axis=0).tolist()

    spread = {part: {name: spread_of(part, name, values) for name, values in of.items()} for part, of in first.items()}
    code = {"training": train.TRAINING, "evaluation": evaluate.EVALUATION}
    results.write_json(path(cell), {**code, "parameters": parameters, "numbers": first, "spread": spread})


def read(cell: str) -> dict:
    """What is kept of a cell. Raises `FileNotFoundError`, which says what to do."""
    try:
        kept = json.loads(path(cell).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"there are no golden numbers of {cell}: write them with python -m bench accept --golden") from None
    for content in (*kept["numbers"].values(), *kept["spread"].values()):
        content |= {name: [float(value) for value in values] for name, values in content.items()}  # an infinite one is a word in JSON
    return kept


def differences(kept: dict, now: dict[str, Any]) -> list[str]:
    """What to say of numbers that are not what is kept of them: nothing where they are."""
    numbers = {"training": ("TRAINING", "bench/train.py", train.TRAINING), "evaluation": ("EVALUATION", "bench/evaluate.py", evaluate.EVALUATION)}
    again = "write the golden numbers anew with python -m bench accept --golden"
    raised = [
        f"{name} in {file} is {value}, the golden numbers are of {kept[part]}: {again}"
        for part, (name, file, value) in numbers.items()
        if value != kept[part]
    ]
    if raised:
        return raised
    if kept["parameters"] != now.get("parameters"):
        return [f"the parameters in {SHIPPED.relative_to(identity.ROOT)} are not those that the golden numbers are of: {again}"]
    lines = []
    for part, of in kept["numbers"].items():
        strange = [_difference(name, values, kept["spread"][part][name], now[part].get(name, [])) for name, values in of.items()]
        strange += [f"{name} is new" for name in now[part].keys() - of.keys()]
        if strange := [line for line in strange if line]:
            name, file, value = numbers[part]
            todo = f"undo what changed them, or, where it is meant, raise {name} in {file} to {value + 1} and {again}"
            lines.append(f"numbers of the {part} changed ({'; '.join(strange)}): {todo}")
            break  # what changes a training may well change an evaluation, and one thing to do is enough
    return lines


def _difference(name: str, kept: list[float], spread: list[float], now: list[float]) -> str:
    if len(now) != len(kept):
        return f"{name}: {len(now)} numbers, not {len(kept)}"
    was, found = np.array(kept), np.array(now)
    allowed = MULTIPLE * max(np.max(spread), LEAST * np.abs(was[np.isfinite(was)]).max(initial=0.0))
    with np.errstate(invalid="ignore"):
        off = ~((np.abs(found - was) <= allowed) | (found == was))
    return f"{name}: {found[off][0]:.6g} instead of {was[off][0]:.6g} ± {allowed:.1g}" if off.any() else ""


def rewrite(cells: tuple[str, ...], cache: Path) -> Iterator[str]:
    """Measures cells with all compilers and nudges, and writes their files; yields the name of each."""
    found: dict[str, list] = {cell: [] for cell in cells}
    for i, flags in enumerate(COMPILERS):
        for cell, numbers in ask(identity.ROOT, [*cells, *([f"--nudges={NUDGES}"] if i == 0 else [])], cache, flags):
            found[cell].append(numbers)
    for cell in cells:
        write(cell, found[cell])
        yield cell


def ask(root: Path, arguments: list[str], cache: Path, flags: str = "") -> Iterator[tuple[str, Any]]:
    """What `python -m bench.golden` of a checkout prints: (name, value) pairs. Raises `RuntimeError`, with the last line of its errors."""
    env = os.environ | environment(cache, haste=False) | {"PYTHONPATH": str(root)}
    env["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen=false {flags}"
    done = subprocess.run([sys.executable, "-m", "bench.golden", *arguments], cwd=root, env=env, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"python -m bench.golden {' '.join(arguments)} in {root}: {(done.stderr.strip().splitlines() or ['it died'])[-1]}")
    yield from (tuple(json.loads(line)) for line in done.stdout.splitlines())


# bits -----------------------------------------------------------------------------------------------------------------


def bits(package: str, row: str) -> str:
    """Hash of all bits that a row's code takes part in: with all constants of a system, with all hyper-parameters of a model."""
    h = hashlib.sha256()
    if package == "systems":
        runs = [(row, model, constants, "default") for constants in ("default", "paper") for model in PRESETS["laptop"].models]
        for constants in ("default", "paper"):
            for leaf in jax.tree.leaves([vars(part) for part in vars(generated(row, constants)).values()]):
                h.update(np.asarray(leaf).tobytes())
    else:
        known = ("default", "paper", *models.get(row).variants)
        runs = [(system, row, "default", hyperparameters) for system in PRESETS["laptop"].systems for hyperparameters in known]
    for run in runs:
        made = short(*run)
        model, losses = made.trained()
        h.update(json.dumps([run, identity.plain(made.trainer.values), vars(made.trainer.scales)]).encode() + losses.tobytes())
        metrics, curves = made.evaluator(model)
        for name, value in (*metrics.items(), *curves.items(), *enumerate(jax.tree.leaves(model))):
            h.update(str(name).encode() + np.asarray(value).tobytes())
    return h.hexdigest()


def rows() -> dict[str, dict[str, str]]:
    """Content of every row, and what it is called in names."""
    names = [(package, name) for package, known in (("systems", systems.names()), ("models", models.names())) for name in known]
    return {f"{p}/{name}": {"content": identity.content(p, name), "called": identity.row(p, name)} for p, name in names}


def main(arguments: list[str]) -> None:
    """Prints golden numbers of cells, with `--nudges=N` as many more of each; of `systems/NAME` and `models/NAME` the hash of their bits; `rows`."""
    nudges = sum(int(word.partition("=")[2]) for word in arguments if word.startswith("--nudges="))
    for name in (word for word in arguments if not word.startswith("--")):
        answers = [rows()] if name == "rows" else [bits(*name.split("/"))] if "/" in name else measured(name, nudges)
        for answer in answers:
            print(json.dumps([name, answer]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
