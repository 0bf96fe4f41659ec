"""What symmetry was learnt: which charges of the truth a model conserves, along its own motion and along the true one."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

import models
import systems
from bench import results
from bench.claims import CORE
from bench.runs import Runs
from bench.sheet import number
from bench.ticks import interval
from bench.verdicts import Effect, median_of_ratios

LEARNT = 0.05  # of what flows through a charge, up to which its change counts as none: a twentieth, as for a learnt energy in Table 1
OWN, TRUE = 0, 1  # along the model's own motion, along the true one
CHARGES = {"energy": "energy", "shift": "momentum", "rotation": "angular momentum"}  # what the charge of a symmetry is called


@dataclass(frozen=True)
class Residual:
    """mean |dC/dt| / mean Σ_i |∂C/∂x_i ẋ_i| of one learnt charge C over held-out states: 0 conserved, 1 changed by all that flows through it."""

    system: str
    charge: str
    model: str
    holds: bool  # whether the truth has this symmetry
    own: Effect
    true: Effect


def residuals(runs: Runs) -> Iterator[Residual]:
    """Of every system whose runs have charges, every charge and every model."""
    found = dict.fromkeys(system for system, _ in runs.rows)
    for system in [*(s for s in CORE if s in found), *(s for s in found if s not in CORE)]:
        physics = systems.get(system)
        charges = {"energy": True, **dict.fromkeys(physics.symmetries(), True), **dict.fromkeys(physics.false_symmetries(), False)}
        for charge, holds in charges.items():
            for model in models.names():
                name = f"charge_{charge}"
                there = [curves for curves in runs.curves(model, system) if f"{name}_change" in curves]
                if there:
                    top, bottom = (np.array([curves[f"{name}_{part}"] for curves in there], float) for part in ("change", "exchange"))
                    own, true = (Effect.of(median_of_ratios(np.mean, top[:, [i]], bottom[:, [i]])) for i in (OWN, TRUE))
                    yield Residual(system, charge, model, holds, own, true)


def _percent(value: float) -> str:
    return f"{number(100 * value)} %"


def _learnt(residual: Residual) -> bool:
    return residual.own.high <= LEARNT


def answers(found: list[Residual]) -> Iterator[str]:
    """In plain words, from the numbers."""
    energies = [r for r in found if r.charge == "energy"]
    if energies:
        worst, right = max(r.own.value for r in energies), [r for r in energies if r.true.high <= LEARNT]
        yield (
            f"Energy is built in. Each of these models keeps its own energy along its own motion whatever it has learnt (to {_percent(worst)} of "
            f"what flows through it, which is rounding). Whether that energy is the true one is another question: along the true motion it is kept "
            f"(to {_percent(LEARNT)}) in {len(right)} of {len(energies)} pairs of model and system, and not by "
            + (", ".join(f"{r.model} on {r.system}" for r in energies if r not in right) or "none left out")
            + "."
        )
    for charge, name in CHARGES.items():
        true = [r for r in found if r.charge == charge and r.holds and charge != "energy"]
        if not true:
            continue
        for system in dict.fromkeys(r.system for r in true):
            here = [r for r in true if r.system == system]
            controls = [r for r in found if r.system == system and not r.holds]
            learnt, not_learnt = [r for r in here if _learnt(r)], [r for r in here if not _learnt(r)]
            line = f"The {name} on {system} is nowhere built in. "
            if learnt:
                largest = _percent(max(r.own.value for r in learnt))
                line += f"It was learnt by {', '.join(r.model for r in learnt)}: along their own motion it changes by {largest} of its flow at most. "
            if not_learnt:
                line += f"It was not learnt by {', '.join(f'{r.model} ({_percent(r.own.value)})' for r in not_learnt)}. "
            if controls:
                line += f"The control, a charge that nothing conserves, changes by {_percent(min(r.own.value for r in controls))} or more."
            yield line.strip()


def markdown(runs: Runs) -> str:
    """The page."""
    found = list(residuals(runs))
    out = ["# What symmetry was learnt", ""]
    out += [
        "A symmetry of the equations is a quantity that the motion keeps (Noether 1918). A network that has learnt a Lagrangian or a Hamiltonian has "
    ]
    out[-1] += (
        "charges too: its energy, and p·ξ for a direction ξ. Each is differentiated along the motion that the model predicts, which says whether the "
    )
    out[-1] += "model has the symmetry, and along the true motion, which says whether what it keeps is what nature keeps; on held-out states. "
    out[-1] += (
        "0: kept; 1: changed by all that flows through it (mean |dC/dt| over mean Σ|∂C/∂xᵢ ẋᵢ|). A direction that is no symmetry is the control."
    )
    out += ["", "## The answer", ""]
    out += [f"* {line}" for line in answers(found)] or ["No run has a learnt energy."]
    out += ["", "## The numbers", "", "Median over seeds; 95 % bootstrap interval over seeds and trajectories.", ""]
    out += ["| system | charge | model | along its own motion | along the true motion |", "|---|---|---|---:|---:|"]
    for r in found:
        kind = CHARGES.get(r.charge, r.charge) if r.holds else f"of {r.charge} (control: no symmetry)"
        out.append(f"| {r.system} | {kind} | {r.model} | {interval(r.own)} | {interval(r.true)} |")
    return "\n".join(out) + "\n"


def write(runs: Runs) -> None:
    """symmetry.md of a results folder."""
    results.write_atomically(runs.output / "symmetry.md", markdown(runs).encode())
