"""Figures of numbers, derived from the curves of a results folder: the same bytes from the same results."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import seaborn as sns
from matplotlib import ticker

from bench import drawing, measure
from bench.claims import COLUMNS
from bench.drawing import INK, Drawing, colour, label
from bench.runs import Runs
from bench.sheet import number
from bench.verdicts import LEVEL

DRAWS = 300  # of seeds and starts, for an interval in a figure
AT_A_GLANCE = {"acceleration_error": "acceleration", "rollout_error": "rollout", "energy_error_last_median": "energy"}
BEST = -6  # log₁₀ of an error that is drawn as dark as can be
ENERGY_ROWS = ("truth", "best_constant")  # floors beside the models: standing still keeps its energy perfectly, and says nothing


def seeds_of(runs: Runs) -> str:
    """How many seeds the runs of a folder have."""
    count = len({row["seed"] for cell in runs.rows.values() for row in cell.values() if row["seed"] is not None})
    return f"{count} seed{'s' * (count != 1)}"


def systems_of(runs: Runs) -> list[str]:
    """Systems with a panel: those of the preset, whose models are all compared, where one of them has numbers."""
    return [system for system in runs.preset["systems"] if models_of(runs, system)]


def models_of(runs: Runs, system: str, floors: tuple[str, ...] = ()) -> list[str]:
    """Models and floors with numbers on a system, models in the order of Table 1."""
    there = [model for s, model in runs.rows if s == system and any(runs.curves(model, system))]
    rows = [*COLUMNS, *(model for model in there if model not in COLUMNS and model in runs.preset["models"]), *floors]
    return [model for model in rows if model in there]


def band(errors: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(median over seeds of the median over starts, and the ends of its bootstrap interval over both) of errors [start, time] of each seed."""
    random, values = np.random.default_rng(0), np.array(errors, float)
    seeds, starts, _ = values.shape
    u = random.integers(starts, size=(DRAWS, starts))
    medians = np.array([[np.median(of_seed[draw], axis=0) for draw in u] for of_seed in values])  # [seed, draw, time]
    drawn = np.median(medians[random.integers(seeds, size=(DRAWS, seeds)), np.arange(DRAWS)[:, None]], axis=1)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail], axis=0, method="nearest")
    return np.median(np.median(values, axis=1), axis=0), low, high


def energy(runs: Runs) -> Drawing:
    """True energy error against time, a panel a system."""
    systems, last = systems_of(runs), []
    with drawing.drawn(1, len(systems), size=(5.2, 4.4)) as made:
        for axis, system in zip(made.axes[0], systems, strict=True):
            for model in models_of(runs, system, ENERGY_ROWS):
                curves = [c for c in runs.curves(model, system) if c]
                time = curves[0]["time"]
                middle, low, high = (np.where(np.isfinite(a), a, np.nan) for a in band([c["energy_error"] for c in curves]))
                axis.plot(time, middle, lw=1.6, color=colour(model), ls=drawing.line(model), label=label(model))
                axis.fill_between(time, low, high, color=colour(model), alpha=0.18, lw=0)
                last.append(f"{label(model)} on {system} {number(middle[-1]) if np.isfinite(middle[-1]) else 'diverged'}")
            axis.set(yscale="log", xlabel=f"time [{drawing.unit_of_time(system)}]", title=system.replace("_", " "))
            axis.margins(x=0)
        made.axes[0, 0].set_ylabel("energy error, median over starts\n[fraction of the system's energy scale]")
        made.legend()
    return made.finished(
        "energy",
        "True energy error against time",
        f"Median over starts and {seeds_of(runs)} of |H(ẑ) − H(z₀)| over the system's energy scale; bands: 95 % bootstrap intervals over "
        "both. A line ends where half of the rollouts have diverged. Dashed: the true equations under the same integrator.",
        f"Line charts. Errors at the last frame: {'; '.join(last)}.",
    )


def overview(runs: Runs) -> Drawing:
    """All cells at a glance: models by systems and errors."""
    systems = systems_of(runs)
    names = [model for model in COLUMNS if any(model in models_of(runs, system) for system in systems)]
    names += [model for system in systems for model in models_of(runs, system) if model not in names]
    columns = [(system, metric) for system in systems for metric in AT_A_GLANCE]
    values = np.full((len(names), len(columns)), np.nan)
    for j, (system, metric) in enumerate(columns):
        for i, model in enumerate(names):
            found = [row["metrics"][metric] for row in runs.of_cell(model, system) if metric in row["metrics"]]
            values[i, j] = np.median(found) if found else np.nan
    with drawing.drawn(1, 1, size=(1.05 * len(columns) + 2.2, 0.48 * len(names) + 1.6)) as made:
        axis = made.axes[0, 0]
        axis.grid(False)
        shown = np.log10(np.where(np.isfinite(values), values, 10.0))
        sns.heatmap(
            np.where(np.isnan(values), np.nan, shown),
            ax=axis,
            cmap="cividis",
            vmin=BEST,
            vmax=0,
            lw=1.5,
            linecolor="none",
            cbar_kws={"label": "log₁₀ of the error"},
        )
        for i, j in np.ndindex(*values.shape):
            missing = np.isnan(values[i, j])
            text = "–" if missing else number(float(values[i, j]))
            ink = INK if missing else "#ffffff" if shown[i, j] < BEST / 2 else "#000000"
            axis.text(j + 0.5, i + 0.5, text, ha="center", va="center", fontsize=10, color=ink)
        axis.set_yticks(np.arange(len(names)) + 0.5, [label(model) for model in names], rotation=0)
        axis.set_xticks(
            np.arange(len(columns)) + 0.5, [AT_A_GLANCE[metric] for _, metric in columns], rotation=40, ha="right", rotation_mode="anchor"
        )
        for k, system in enumerate(systems):
            axis.text((k + 0.5) * len(AT_A_GLANCE), -0.25, system.replace("_", " "), ha="center", va="bottom", fontweight="bold", fontsize=11)
            if k:
                axis.axvline(k * len(AT_A_GLANCE), color=INK, lw=1.2)
    rows = [
        f"{label(model)}: " + ", ".join(f"{s} {AT_A_GLANCE[m]} {number(v)}" for (s, m), v in zip(columns, row, strict=True) if not np.isnan(v))
        for model, row in zip(names, values, strict=True)
    ]
    return made.finished(
        "overview",
        "All cells at a glance",
        f"Median over {seeds_of(runs)} of three errors, as fractions: acceleration on held-out states (1: predicting zero), rollout over a "
        "short window, true energy at the last frame, median over starts (∞: half of them diverged). –: the model has no such thing. "
        "Dark is good.",
        f"Table as a heat map. {'. '.join(rows)}.",
    )


def starts(runs: Runs) -> Drawing:
    """How errors are distributed over starts: cumulative, a panel a system."""
    return _cumulative(
        runs,
        "starts",
        "Energy error of every start",
        lambda c: c["energy_error"][:, -1],
        "energy error at the last frame [fraction]",
        f"Share of evaluation starts (of {seeds_of(runs)}) whose energy error at the last frame is at most that; a curve that stays below 1 has "
        "rollouts that diverged. A mean is often one or two starts at the right end. Errors below 1e-9 are drawn there.",
    )


def _cumulative(runs: Runs, name: str, title: str, read: Callable[[dict], np.ndarray], axis_label: str, caption: str) -> Drawing:
    systems, said = systems_of(runs), []
    with drawing.drawn(1, len(systems), size=(5.2, 4.2)) as made:
        for axis, system in zip(made.axes[0], systems, strict=True):
            for model in models_of(runs, system, ENERGY_ROWS):
                values = np.sort(np.concatenate([read(c) for c in runs.curves(model, system) if c]).astype(float))
                finite = values[np.isfinite(values)]
                share = np.arange(1, len(finite) + 1) / len(values)
                axis.step(np.maximum(finite, 1e-9), share, where="post", lw=1.6, color=colour(model), ls=drawing.line(model), label=label(model))
                middle = np.quantile(values, 0.5, method="nearest")
                said.append(f"{label(model)} on {system}: median {number(middle)}, largest {number(values[-1])}")
            axis.set(xscale="log", xlabel=axis_label, title=system.replace("_", " "), ylim=(0, 1.02))
        made.axes[0, 0].set_ylabel("share of starts")
        made.legend()
    return made.finished(name, title, caption, f"Cumulative distributions. {'; '.join(said)}.")


def training(runs: Runs) -> Drawing:
    """Training loss against step: a row a system, a column a model."""
    systems, said = systems_of(runs), []
    names = list(dict.fromkeys(model for system in systems for model in models_of(runs, system)))
    with drawing.drawn(len(systems), len(names), size=(2.5, 2.1)) as made:
        for i, system in enumerate(systems):
            for j, model in enumerate(names):
                axis = made.axes[i, j]
                curves = [c for c in runs.curves(model, system) if "training_train_loss" in c]
                if curves:
                    losses = np.array([c["training_train_loss"] for c in curves])
                    step = curves[0]["training_step"]
                    axis.plot(step, np.median(losses, axis=0), color=colour(model), lw=1.6)
                    axis.fill_between(step, losses.min(axis=0), losses.max(axis=0), color=colour(model), alpha=0.25, lw=0)
                    axis.set_yscale("log" if losses.min() > 0 else "linear")
                    first, last = (float(np.median(losses[:, k])) for k in (0, -1))
                    said.append(f"{label(model)} on {system} from {number(first)} to {number(last)}")
                axis.tick_params(which="both", labelsize=8)
                if i == 0:
                    axis.set_title(label(model), fontsize=11)
                if i == len(systems) - 1:
                    axis.set_xlabel("step", fontsize=9)
            made.axes[i, 0].set_ylabel(f"{system.replace('_', ' ')}\nloss [own units]", fontsize=9)
    return made.finished(
        "training",
        "Training loss",
        f"Mean over each chunk of steps, median and range over {seeds_of(runs)}. Every model has a loss of its own: compare shapes, not "
        "heights. Logarithms, which the LNN's are (of a likelihood, of the forward error at the end, and on the ring of that alone), have a "
        "linear axis.",
        f"Small line charts, one for each model and system. {'; '.join(said)}.",
    )


def cost(runs: Runs) -> Drawing:
    """Error against inference time, beside the true equations integrated at longer and longer steps."""
    systems, said = systems_of(runs), []
    errors = {"rollout_error": "rollout error, short window", "energy_error_last_median": "energy error, last frame, median"}
    coarse = {"rollout_error": "coarse_rollout_error", "energy_error_last_median": "coarse_energy_error"}
    with drawing.drawn(2, len(systems), size=(5.2, 3.6)) as made:
        for j, system in enumerate(systems):
            made.axes[1, j].sharex(made.axes[0, j])
            for i, (metric, axis_label) in enumerate(errors.items()):
                axis = made.axes[i, j]
                for model in models_of(runs, system):
                    rows = runs.of_cell(model, system)
                    timed = [row["speed"]["rollout_states_per_second"] for row in rows if "rollout_states_per_second" in row["speed"]]
                    values = [row["metrics"].get(metric, np.inf) if row["status"] == "finished" else np.inf for row in rows]
                    if timed and np.isfinite(value := np.median(values)):
                        axis.plot(1e6 / timed[0], value, "o", ms=8, color=colour(model), label=label(model))
                        said.append(f"{label(model)} on {system}: {number(1e6 / timed[0])} µs, {axis_label} {number(value)}")
                for row, curves in zip(runs.of_cell("truth", system), runs.curves("truth", system), strict=True):
                    if "coarse_substeps" in curves and row["speed"]:
                        speeds = [row["speed"][measure.coarse(int(n))] for n in curves["coarse_substeps"]]
                        values = np.where(np.isfinite(curves[coarse[metric]]), np.maximum(curves[coarse[metric]], 1e-9), np.nan)
                        axis.plot(1e6 / np.array(speeds), values, "--s", ms=5, lw=1.2, color=INK, label="true equations, longer and longer steps")
                axis.set(xscale="log", yscale="log")
                axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 3)))
                axis.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
                axis.xaxis.set_minor_locator(ticker.NullLocator())
                if i == 0:
                    axis.set_title(system.replace("_", " "))
                if i == 1:
                    axis.set_xlabel("time for one frame of one start [µs, one thread]")
        for axis, axis_label in zip(made.axes[:, 0], errors.values(), strict=True):
            axis.set_ylabel(f"{axis_label}\n[fraction]")
        made.legend()
    return made.finished(
        "cost",
        "Error against inference time",
        f"What a predicted frame costs and how wrong it is, median over {seeds_of(runs)}: models with their own steps, and the true equations "
        "with the same steps and with 2, 4, ... times longer ones (a point that is not there has diverged). Below and left is better. Where "
        "the true equations are known and as cheap, no model pays off.",
        f"Scatter charts. {'; '.join(said)}.",
    )


FIGURES = (energy, overview, starts, cost, training)


def all_of(runs: Runs) -> Iterator[Drawing]:
    """Every figure that the runs have something for."""
    if systems_of(runs):
        for figure in FIGURES:
            yield figure(runs)


def write(drawings: list[Drawing], output: Path) -> None:
    """SVG files of a results folder."""
    for made in drawings:
        drawing.write(made, output / "figures" / f"{made.name}.svg")
