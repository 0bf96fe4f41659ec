"""Accuracy against the length of a training: the published acceleration loss on fresh states, and the LNN's energy error at 100 s."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

import models
from bench.grid import Cell
from bench.presets import Preset
from bench.recipe import SAMPLES, errors, spread
from bench.sheet import number

if TYPE_CHECKING:  # plotting is slow to import
    from bench.drawing import Drawing

SYSTEM = "double_pendulum"
PUBLISHED_LOSS = 0.073  # L1 norm of the acceleration's error [rad/s²], Cranmer et al. 2020, after 3e8 samples
LOSS, ENERGY = "acceleration_l1", "energy_error_last_mean"
LENGTHS = (2_000, 4_500, 10_000, 25_000, 60_000, 156_250)  # steps of whole trainings on fresh states: 2.6e5 to 2e7 samples
SEEDS = 3  # of each of them
RATE = 0.5  # of a model's own, where it stays at its height: the best of a search, or within 2 % of it (results/reference/tuning_fresh.csv)
SEARCHED = 6_000  # steps of the trainings of that search; in longer ones the rate of most falls with the root of the length
SHORTER = (2_000, 3_200)  # steps of trainings of the LNN on trajectories, beside those of the preset
Rows = Callable[[Preset, str, str], list[dict]]  # results under a preset, of a system and a model


@dataclass(frozen=True)
class Learner:
    """A model with a variant of its hyper-parameters."""

    title: str
    model: str
    hyperparameters: str = "default"
    falls: bool = True  # whether its rate falls with the length: as its loss on validation data is lower (results/reference/tuning_length.csv)

    def preset(self, preset: Preset, steps: int) -> Preset:
        """The preset of a whole training of that length, on states drawn anew at every step, as published."""
        law = {"sampling": "fresh", "constants": "paper", "schedule": "trapezoidal"}
        made = replace(preset, models=(self.model,), hyperparameters=self.hyperparameters, seeds=preset.seeds[:SEEDS], **law)
        highest = RATE * made.settings(models.get(self.model)).rate_of(made.optimizer)
        times_less = max(1.0, steps / SEARCHED) ** 0.5 if self.falls else 1.0
        return of_length(replace(made, learning_rate=highest / times_less), steps)


LEARNERS = (
    Learner("lnn", "lnn"),
    Learner("lnn without quadratic form and squares", "lnn", "plain"),
    Learner("second_order_ode", "second_order_ode", falls=False),
    Learner("hnn", "hnn"),
)


def of_length(preset: Preset, steps: int) -> Preset:
    """A preset with trainings of that length; the warm-up of shorter ones is shorter in proportion."""
    return replace(preset, steps=steps, warmup=min(preset.warmup, preset.warmup * steps // preset.steps))


def shortened(preset: Preset) -> list[Preset]:
    """Those of the LNN's trainings on trajectories, the preset's own the last."""
    return [of_length(replace(preset, models=("lnn",)), steps) for steps in sorted({*SHORTER, preset.steps})]


def cells(preset: Preset) -> list[Cell]:
    """All trainings of this page."""
    of_loss = [Cell(learner.preset(preset, steps), SYSTEM, learner.model) for learner in LEARNERS for steps in LENGTHS]
    return of_loss + [Cell(of_length, SYSTEM, "lnn") for of_length in shortened(preset)]


def losses(rows: Rows, preset: Preset, learner: Learner, steps: int) -> list[float]:
    """The loss on held-out states of the law after a training of that length, of each seed; infinite where it diverged."""
    return errors(rows(learner.preset(preset, steps), SYSTEM, learner.model), LOSS)


def seconds(found: list[dict]) -> str:
    """Median time of training of some runs, without compiling."""
    times = [row["provenance"].get("training_cpu_seconds") for row in found]
    known = [t for t in times if t is not None]
    return number(float(np.median(known))) if known else "?"


def count(samples: int | float) -> str:
    """2.6e5."""
    return f"{samples:.1e}".replace(".0e", "e").replace("e+0", "e")


def markdown(rows: Rows, preset: Preset) -> list[str]:
    """Both tables."""
    out = ["# The published loss", ""]
    out += [
        f"Cranmer et al. report an acceleration loss of {PUBLISHED_LOSS} (L1 norm [rad/s²] on independent states, ω up to 10 rad/s) after "
        f"{count(SAMPLES)} samples, and 0.074 for their baseline. Ours: each row a whole training of that length on states drawn anew at every step, "
        "the learning rate constant and then falling to 0 over the last 35 %. It is half of the model's own, divided by the root of the number of "
        f"steps over {SEARCHED} where there are more, but for those whose loss on validation data is lower without that "
        f"({', '.join(learner.title for learner in LEARNERS if not learner.falls)}). The loss is taken on held-out states of the same law, median "
        "and range of the seeds; seconds are one thread's processor time, without compiling.",
        "",
        "| | steps | samples | of the published number | seconds | loss | seeds at or below the published loss |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for learner in LEARNERS:
        for steps in LENGTHS:
            found = rows(learner.preset(preset, steps), SYSTEM, learner.model)
            values = errors(found, LOSS)
            samples = steps * preset.batch
            measured = (seconds(found), spread(values), f"{sum(v <= PUBLISHED_LOSS for v in values)} of {len(values)}") if values else ("?", "?", "")
            out.append(f"| {learner.title} | {steps} | {count(samples)} | 1/{number(SAMPLES / samples)} | " + " | ".join(measured) + " |")
    out += ["", "# The LNN's energy error against the length of its training", ""]
    out += ["Double pendulum, separate trainings on trajectories; energy error after 100 s, mean of 40 starts, median and range of the seeds.", ""]
    out += ["| steps | seconds | energy error |", "|---:|---:|---:|"]
    for of_length in shortened(preset):
        found = rows(of_length, SYSTEM, "lnn")
        out.append(f"| {of_length.steps} | {seconds(found)} | {spread(errors(found, ENERGY)) if found else '?'} |")
    return out


def draw(rows: Rows, preset: Preset) -> "Drawing | None":
    """Loss against samples: a point is a whole training of that length, a line joins the medians of a model; None where nothing was run."""
    from bench import drawing

    said = []
    with drawing.drawn(1, 1, size=(7.0, 4.6)) as made:
        axis = made.axes[0, 0]
        for learner, style in zip(LEARNERS, ("-", "--", "-", "-"), strict=True):
            found = {steps * preset.batch: losses(rows, preset, learner, steps) for steps in LENGTHS}
            found = {samples: values for samples, values in found.items() if np.isfinite(values).any()}
            if not found:
                continue
            colour = drawing.colour(learner.model)
            for samples, values in found.items():
                axis.plot([samples] * len(values), values, "o", ms=4, color=colour, alpha=0.5)
            medians = [float(np.median(values)) for values in found.values()]
            axis.plot(list(found), medians, style, color=colour, label=learner.title)
            said.append(f"{learner.title}: {', '.join(f'{number(m)} after {count(n)} samples' for n, m in zip(found, medians, strict=True))}")
        axis.plot(SAMPLES, PUBLISHED_LOSS, "*", ms=13, color=drawing.INK, label="published, LNN of width 500")
        axis.axhline(PUBLISHED_LOSS, color=drawing.INK, lw=0.8, ls=":")
        axis.set(xscale="log", yscale="log", xlabel="training samples", ylabel="acceleration loss, L1 norm [rad/s²]")
        made.legend()
    if not said:
        return None
    words = "Each point is a whole training of that length on fresh states, its learning rate falling to 0 at its end; lines join medians."
    return made.finished("published_loss", "The published acceleration loss against samples", words, "; ".join(said) + ".")


def tidy(rows: Rows, preset: Preset) -> Iterator[tuple[str, str, str, float]]:
    """(what, model, run, number) of every run of both tables."""
    for learner in LEARNERS:
        for steps in LENGTHS:
            found = rows(learner.preset(preset, steps), SYSTEM, learner.model)
            for row, loss in zip(found, errors(found, LOSS), strict=True):
                yield f"loss of {learner.title} after {steps} steps", learner.model, row["run"], loss
    for of_length in shortened(preset):
        found = rows(of_length, SYSTEM, "lnn")
        for row, error in zip(found, errors(found, ENERGY), strict=True):
            yield f"energy error at 100 s after {of_length.steps} steps", "lnn", row["run"], error
