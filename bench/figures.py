"""Figures, derived from the curves of a results folder."""

import io
from contextlib import contextmanager
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

from bench import grid, results
from bench.floors import FLOORS
from bench.sealed import write_atomically

# places in seaborn's colour-blind-safe palette, the same for a model everywhere
PLACES = {"lnn": 0, "second_order_ode": 1, "delan": 2, "hnn": 3, "hnn_naive": 4, "neural_ode": 5, "mlp": 9}
STYLES = {"truth": "--", "best_constant": ":"}


def colour(model: str):
    """Colour of a model in every figure; grey for floors and for rows without a place."""
    return sns.color_palette("colorblind")[PLACES[model]] if model in PLACES else "0.45"


@contextmanager
def drawn(path: Path, rows: int, columns: int, size: tuple[float, float]):
    """(figure, axes [rows, columns]) to draw on, of `size` inches each; written to `path` when whole, the same bytes from the same results."""
    plt.rcParams["svg.hashsalt"] = "leastaction"
    with sns.axes_style("whitegrid"), sns.plotting_context("notebook"):
        figure, axes = plt.subplots(rows, columns, figsize=(size[0] * columns, size[1] * rows), layout="constrained", squeeze=False)
        yield figure, axes
        drawing = io.BytesIO()
        figure.savefig(drawing, format="svg", metadata={"Date": None})
        plt.close(figure)
    write_atomically(path, drawing.getvalue())


def energy_against_time(sheet, output: Path) -> None:
    """energy.svg: true energy error against time, a panel per system: median over starts of the median seed, band over seeds."""
    systems = sheet.systems()
    with drawn(output / "energy.svg", 1, len(systems), size=(5.2, 4.2)) as (figure, axes):
        for axis, system in zip(axes[0], systems, strict=True):
            for model in sheet.models(system):
                if model in ("predict_zero", "truth_perturbed"):
                    continue  # the first keeps its energy by standing still
                curves = [results.curves(grid.folder(output, r["run"]), r) for r in sheet.runs(system, model)]
                if not curves:
                    continue
                time = curves[0]["time"]
                medians = np.array([np.median(c["energy_error"], axis=0) for c in curves])
                medians = np.where(np.isfinite(medians), medians, np.nan)  # a line ends where half of the rollouts have diverged
                style = {"color": colour(model), "label": FLOORS[model].title.strip("*") if model in FLOORS else model}
                axis.plot(time, np.median(medians, axis=0), lw=1.6, ls=STYLES.get(model, "-"), **style)
                if len(curves) > 1:
                    axis.fill_between(time, medians.min(axis=0), medians.max(axis=0), color=colour(model), alpha=0.18, lw=0)
            axis.set(yscale="log", xlabel="time [s]", title=system.replace("_", " "))
            axis.margins(x=0)
        axes[0, 0].set_ylabel("energy error, median over starts\n[fraction of the system's energy scale]")
        handles = {label: handle for axis in axes[0] for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5, frameon=False)
