"""The LNN's recipe, part by part: from the published one to ours, one change at a time, in our budget."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

import systems
from bench.claims import CORE
from bench.presets import Preset
from bench.sheet import number

FAILED = 0.1  # acceleration error above which a training counts as failed: the threshold of Table 1's first row
AS_WELL = 1.2  # times the error, up to which one recipe does as well as another: within the spread of seeds
SAMPLES = 3e8  # states of the published training of the LNN on the pendulum
ERROR, ENERGY = "acceleration_error", "energy_error_last_median"


@dataclass(frozen=True)
class Rung:
    """A recipe: a variant of a model's hyper-parameters, and an optimiser with the model's own rate for it."""

    title: str
    hyperparameters: str
    optimizer: Literal["soap", "muon", "adam"] = "soap"
    model: str = "lnn"

    def applies(self, system: str) -> bool:
        """Whether it is another recipe there than the one above: on a ring there is neither the force likelihood nor a quadratic form."""
        return not (systems.get(system).spec.lattice and self.hyperparameters in ("force_likelihood", "head"))

    def preset(self, preset: Preset) -> Preset:
        """The preset that trains by it."""
        return replace(preset, models=(self.model,), hyperparameters=self.hyperparameters, optimizer=self.optimizer)


RUNGS = (
    Rung("as published: its first weights, forward error, Adam from 1e-3", "as_published", "adam"),
    Rung("+ positive start: ½‖u‖², small first weights", "positive_start", "adam"),
    Rung("+ normalisation", "normalised", "adam"),
    Rung("+ force likelihood", "force_likelihood", "adam"),
    Rung("+ log of the forward error", "plain", "adam"),
    Rung("+ muon from 2e-2", "plain", "muon"),
    Rung("+ SOAP from its own rate", "plain"),
    Rung("+ quadratic form: ½ uᵀMu − V beside N", "head"),
    Rung("+ squares of outputs in N: the recipe of make bench", "default"),
    Rung("the same on the forward error alone", "forward_error_alone"),
)
OURS, ALONE = RUNGS[-2:]
RIVALS = tuple(
    Rung(title, name, model=model) for model in ("hnn", "hnn_naive") for title, name in ((f"{model}: H = N", "plain"), (f"{model}", "default"))
)
Runs = Callable[[Rung, str], list[dict]]  # of a recipe on a system: all that were trained, those that diverged among them


def errors(rows: list[dict], metric: str) -> list[float]:
    """Of each run; infinite where the training diverged."""
    return [np.inf if row["status"] == "diverged" else row["metrics"][metric] for row in rows]


def failures(rows: list[dict]) -> int:
    """How many trainings diverged, or ended with an acceleration error above a tenth."""
    return sum(not error <= FAILED for error in errors(rows, ERROR))


def spread(values) -> str:
    """0.0031 (0.0028–0.004): median, least and largest."""
    low, high = number(min(values)), number(max(values))
    return number(float(np.median(values))) + (f" ({low}–{high})" if low != high else "")


def on_the_forward_error(runs: Runs) -> Iterator[str]:
    """Where the forward error alone does as well as the whole recipe, and where it doesn't: a line a system."""
    for system in CORE:
        ours, alone = runs(OURS, system), runs(ALONE, system)
        if not ours or not alone:
            yield f"{system}: not run"
            continue
        error, other = (float(np.median(errors(rows, ERROR))) for rows in (ours, alone))
        as_well = other <= AS_WELL * error and failures(alone) <= failures(ours)
        lost = f"failed {failures(alone)} of {len(alone)} against {failures(ours)} of {len(ours)}"
        said = f"the forward error alone does {'as well' if as_well else 'worse'}"
        yield f"{system}: {said} (acceleration error {number(other)} against {number(error)}, {lost})"


def brief(rung: Rung, rows: list[dict], system: str) -> str:
    """Median error and failed trainings of a recipe on a system."""
    if not rung.applies(system):
        return "as above"
    return f"{number(float(np.median(errors(rows, ERROR))))}, {failures(rows)} of {len(rows)}" if rows else "?"


def markdown(runs: Runs, preset: dict) -> list[str]:
    """The table, and what it says of the forward error."""
    share = number(100 * preset["steps"] * preset["batch"] / SAMPLES)
    out = [
        "# The LNN's recipe, part by part",
        "",
        f"{preset['steps']} steps of {preset['batch']} states, {share} % of the published number, {len(preset['seeds'])} seeds. "
        "Each line but the last adds to the one above. Median over seeds and their range; a training has failed if it diverged, or if its "
        f"acceleration error exceeds {FAILED:g}. On the ring there is neither the force likelihood nor a quadratic form. All rates rise for "
        f"{preset['warmup']} steps and fall by a cosine. With Adam the rate is the published 1e-3 throughout, which nobody tuned for 6000 steps, "
        "with muon and SOAP the one that was searched for with the whole recipe: what they add includes that search. Energy errors are fractions "
        "of each system's energy scale.",
    ]
    out += _table(RUNGS, runs)
    out += ["", *(f"* {line}." for line in on_the_forward_error(runs))]
    return [
        *out,
        "",
        "The Hamiltonian networks without and with a quadratic form and squares of outputs, by the recipe of make bench:",
        *_table(RIVALS, runs),
    ]


def _table(rungs: tuple[Rung, ...], runs: Runs) -> list[str]:
    out = ["", "| | " + " | ".join(f"{system}: acceleration | energy, last: median | failed" for system in CORE) + " |"]
    out += ["|---|" + "---:|" * 3 * len(CORE)]
    for rung in rungs:
        parts = []
        for system in CORE:
            if not rung.applies(system):
                parts += ["as above", "as above", ""]
                continue
            rows = runs(rung, system)
            parts += [spread(errors(rows, name)) if rows else "?" for name in (ERROR, ENERGY)]
            parts.append(f"{failures(rows)} of {len(rows)}")
        out.append(f"| {rung.title} | " + " | ".join(parts) + " |")
    return out
