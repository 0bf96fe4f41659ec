"""What symmetry was learnt: which charges of the truth a model's motion keeps, and what its own energy and charges do."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

import models
import systems
from bench import results
from bench.claims import CORE, Curves
from bench.runs import Runs
from bench.sheet import number
from bench.ticks import interval
from bench.verdicts import Effect, Verdict, median_of_ratios

LEARNT = 0.05  # of what flows through a charge, up to which its change counts as none: a twentieth, as for the learnt energy in Table 1
OWN, TRUE = 0, 1  # motions of a learnt charge: the model's own, and the true one
CHARGES = {"energy": "energy", "shift": "momentum", "rotation": "angular momentum"}  # what the charge of a symmetry is called


@dataclass(frozen=True)
class Residual:
    """mean |dC/dt| / mean Σ_i |∂C/∂x_i ẋ_i| of a charge C over held-out states: 0 kept, 1 changed by all that flows through it."""

    system: str
    charge: str
    model: str
    holds: bool  # whether the truth has this symmetry
    kept: Effect  # the true charge along the model's own motion
    own: Effect | None  # the learnt charge along it, where there is one
    true: Effect | None  # the learnt charge along the true motion

    @property
    def verdict(self) -> Verdict:
        """Whether the model's motion keeps what nature keeps."""
        return self.kept.against(LEARNT)


def residuals(runs: Runs) -> Iterator[Residual]:
    """Of every system with runs, every charge and every model that has a field. A training that diverged counts as infinite.

    A force that no Lagrangian gives changes energy and charges by right: systems with one are left out.
    """
    found = dict.fromkeys(system for system, _ in runs.rows if not systems.get(system).forced)
    for system in [*(s for s in CORE if s in found), *(s for s in found if s not in CORE)]:
        physics = systems.get(system)
        charges = {"energy": True, **dict.fromkeys(physics.symmetries(), True), **dict.fromkeys(physics.false_symmetries(), False)}
        for charge, holds in charges.items():
            for model in models.names():
                of_seeds = runs.curves(model, system)
                if (kept := _effect(of_seeds, f"kept_{charge}")) is not None:
                    learnt = charge == "energy" or hasattr(models.get(model), "lagrangian")  # of a Hamiltonian model p is given
                    own, true = (_effect(of_seeds, f"charge_{charge}", motion) if learnt else None for motion in (OWN, TRUE))
                    yield Residual(system, charge, model, holds, kept, own, true)


def _effect(of_seeds: list[Curves], name: str, motion: int | None = None) -> Effect | None:
    """None where no run has it."""
    there = next((curves for curves in of_seeds if f"{name}_change" in curves), None)
    if there is None:
        return None
    lost = {f"{name}_change": np.full_like(there[f"{name}_change"], np.inf), f"{name}_exchange": np.ones_like(there[f"{name}_exchange"])}
    chosen = slice(None) if motion is None else motion
    top, bottom = (np.array([(curves or lost)[f"{name}_{part}"][chosen] for curves in of_seeds], float) for part in ("change", "exchange"))
    return Effect.of(median_of_ratios(np.mean, top[:, None], bottom[:, None]))


def _percent(value: float) -> str:
    return f"{number(100 * value)} %"


def _who(found: list[Residual]) -> str:
    return ", ".join(f"{r.model} ({_percent(r.kept.value)})" for r in found)


def answers(found: list[Residual]) -> Iterator[str]:
    """In plain words, from the numbers."""
    if any(r.charge == "energy" and r.own is not None for r in found):
        yield (
            "A model with a learnt energy keeps it along its own motion, whatever it has learnt: that is built in. Whether it is the energy of "
            "nature is another question; so ask what the model's motion does to the true one. In brackets: the share of its flow that is lost."
        )
    for system, charge in dict.fromkeys((r.system, r.charge) for r in found if r.holds):
        here = [r for r in found if (r.system, r.charge) == (system, charge)]
        parts = []
        for verdict, words in ((Verdict.YES, "kept by"), (Verdict.NO, "not kept by"), (Verdict.OPEN, "undecided for")):
            if those := [r for r in here if r.verdict == verdict]:
                parts.append(f"{words} {_who(those)}")
        controls = [r.kept.value for r in found if r.system == system and not r.holds]
        control = f" The control: {_percent(min(controls))} or more." if controls else ""
        yield f"{system}, {CHARGES[charge]}: {'; '.join(parts)}.{control}"
    others = [r for r in found if r.holds and r.own is not None and r.verdict == Verdict.YES and r.own.against(LEARNT) == Verdict.NO]
    if others:
        where = ", ".join(f"{r.model} on {r.system} ({_percent(r.own.value)})" for r in others if r.own is not None)
        yield (
            f"A motion can have a symmetry that the learnt function does not have. Its own charge, the learnt momentum ∂L/∂v "
            f"along the direction of the symmetry, is not kept by {where}, though the motion "
            "keeps the true one: one motion has many Lagrangians, and training chooses among them without asking for symmetry."
        )


def markdown(runs: Runs) -> str:
    """The page."""
    found = list(residuals(runs))
    out = [
        "# What symmetry was learnt",
        "",
        "To every continuous symmetry of the action belongs a quantity that the motion keeps (Noether 1918): to shifts in time the energy; to adding "
        "a constant to the field of the ring its momentum Σv (that a shift along the ring changes nothing is built into all models, one network at "
        "each site); to rotations the angular momentum of a particle in a central field. Does the motion that a model predicts keep it? It counts as "
        f"kept where its rate of change is at most {_percent(LEARNT)} of what flows through it, mean |dC/dt| over mean Σ|∂C/∂xᵢ ẋᵢ|, on held-out "
        "states. A direction that is no symmetry is the control, where there is one.",
    ]
    out += ["", "## The answer", ""]
    out += [f"* {line}" for line in answers(found)] or ["No run has a field."]
    out += [
        "",
        "## The numbers",
        "",
        "Median over seeds, bootstrap interval over seeds and trajectories. The learnt charge is the learnt energy, or the ",
    ]
    out[-1] += "learnt ∂L/∂v times a direction; a Hamiltonian model has no momenta of its own, but those that it is given."
    out += ["", "| system | charge | model | true charge, own motion | learnt charge, own motion | learnt charge, true motion |"]
    out += ["|---|---|---|---:|---:|---:|"]
    for r in found:
        kind = CHARGES.get(r.charge, r.charge) if r.holds else f"of {r.charge} (control: no symmetry)"
        learnt = ["–" if effect is None else interval(effect) for effect in (r.own, r.true)]
        out.append(f"| {r.system} | {kind} | {r.model} | {interval(r.kept)} | {' | '.join(learnt)} |")
    return "\n".join(out) + "\n"


def write(runs: Runs) -> None:
    """symmetry.md of a results folder."""
    results.write_atomically(runs.output / "symmetry.md", markdown(runs).encode())
