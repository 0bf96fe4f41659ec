"""Motion: the published figures 2, 3 and 4 for all models, and short animations, from the motion that every run stores of the first start."""

import io
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import systems
from bench import drawing
from bench.drawing import INK, Drawing, colour, label
from bench.figures import models_of
from bench.runs import Runs
from bench.sealed import write_atomically
from bench.sheet import number

SHORT = 10.0  # s of the double pendulum, a few Lyapunov times
COMPANY = ("neural_ode", "hnn_naive", "delan", "lnn")  # beside the truth, in an animation
SMALLEST = 1e-9  # that an error is drawn as
FIELD, DIFFERENCE = 1.0, 0.1  # of the wave: what the darkest colour stands for


class Film:
    """Motion from the evaluation's first start: of the truth under the models' integrator, and of the first seed of each model."""

    def __init__(self, runs: Runs, system: str):
        self.system = systems.get(system, runs.preset["constants"])
        shown = {model: _first(runs, model, system) for model in ("truth", *models_of(runs, system))}
        there = {model: curves for model, curves in shown.items() if curves}
        self.truth = there.pop("truth", None)
        self.models = {model: curves["prediction"].astype(float) for model, curves in there.items()}
        if self.truth is not None:
            self.time, self.true = self.truth["prediction_time"].astype(float), self.truth["prediction"].astype(float)

    def energy(self, motion: np.ndarray, c) -> np.ndarray:
        """True energy along a motion [time, 2, dof]."""
        return np.asarray(jax.vmap(lambda x: self.system.energy(x, c))(jnp.asarray(motion)))


def _first(runs: Runs, model: str, system: str) -> dict:
    curves = [c for c in runs.curves(model, system) if "prediction" in c]
    return curves[0] if curves else {}


def _drawable(errors: np.ndarray) -> np.ndarray:
    """Errors on a logarithmic axis, to four digits of their logarithm: the last bits of another processor draw the same line."""
    return 10.0 ** np.round(np.log10(np.where(np.isfinite(errors), np.maximum(errors, SMALLEST), np.nan)), 4)


def _title(model: str) -> str:
    """Name of a model, and the chart that it works in where that matters."""
    chart = {"hnn": "\n(true momenta)", "hnn_naive": "\n(takes v for p)"}
    return label(model) + chart.get(model, "")


def double_pendulum(runs: Runs) -> Drawing | None:
    """Angles over a short and over the whole time, and energy: as figure 2 of the LNN paper, for all models."""
    film = Film(runs, "double_pendulum")
    if film.truth is None or not film.models:
        return None
    windows = film.time <= SHORT, film.time > film.time[-1] - SHORT
    said = []
    no_context = jnp.zeros(0)
    scale = float(film.system.energy_scale(jnp.asarray(film.true[:1]), no_context[None])[0])
    start = film.energy(film.true[:1], no_context)[0]
    with drawing.drawn(3, len(film.models), size=(2.3, 1.9)) as made:
        for j, (model, motion) in enumerate(film.models.items()):
            top, middle, bottom = made.axes[:, j]
            for axis, chosen in zip((top, middle), windows, strict=True):
                axis.plot(film.time[chosen], np.sin(film.true[chosen, 0, 1]), color=INK, lw=1.0, ls="--", label="truth")
                axis.plot(film.time[chosen], np.sin(motion[chosen, 0, 1]), color=colour(model), lw=1.2)
                axis.set_ylim(-1.1, 1.1)
            drift = np.abs(film.energy(motion, no_context) - start) / scale
            bottom.plot(film.time, _drawable(drift), color=colour(model), lw=0.8)
            bottom.set(yscale="log", ylim=(1e-6, 10))
            bottom.set_xlabel("time [s]", fontsize=9)
            top.set_title(_title(model), fontsize=11)
            said.append(f"{label(model)}: energy error at the end {number(float(drift[-1]))}")
            for axis in made.axes[:, j]:
                axis.tick_params(labelsize=8)
                if j:
                    axis.set_yticklabels([])
        for axis, text in zip(
            made.axes[:, 0], (f"sin θ₂, first {SHORT:g} s", f"sin θ₂, last {SHORT:g} s", "energy error\n[fraction of 29.4 J]"), strict=True
        ):
            axis.set_ylabel(text, fontsize=9)
        made.legend()
    return made.finished(
        "double_pendulum",
        "Double pendulum, short and long",
        "The evaluation's first start and the first seed of each model. Dashed: the true equations under the "
        "same integrator. The motion is chaotic, so that every curve leaves the truth "
        "after some seconds; what tells models apart afterwards is the energy. After figure 2 of Cranmer et al. 2020.",
        f"Line charts, a column a model. {'; '.join(said)}.",
    )


def relativistic_particle(runs: Runs) -> Drawing | None:
    """Velocity and its error, for models with true momenta and without: as figure 3 of the LNN paper."""
    film = Film(runs, "relativistic_particle")
    if film.truth is None or not film.models:
        return None
    said = []
    with drawing.drawn(2, len(film.models), size=(2.3, 2.0)) as made:
        for j, (model, motion) in enumerate(film.models.items()):
            top, bottom = made.axes[:, j]
            top.plot(film.time, film.true[:, 1, 0], color=INK, lw=1.2, ls="--", label="truth")
            top.plot(film.time, motion[:, 1, 0], color=colour(model), lw=1.6)
            error = np.abs(motion[:, 1, 0] - film.true[:, 1, 0])
            bottom.plot(film.time, _drawable(error), color=colour(model), lw=1.4)
            top.set_title(_title(model), fontsize=11)
            top.set_ylim(-1.15, 1.15)
            bottom.set(yscale="log", ylim=(1e-6, 3))
            bottom.set_xlabel("time [s]", fontsize=9)
            said.append(f"{label(model)}: error at the end {number(float(error[-1]))}")
            for axis in made.axes[:, j]:
                axis.tick_params(labelsize=8)
                if j:
                    axis.set_yticklabels([])
        for axis, text in zip(made.axes[:, 0], ("velocity [c]", "error of the velocity [c]"), strict=True):
            axis.set_ylabel(text, fontsize=9)
        made.legend()
    return made.finished(
        "relativistic_particle",
        "Relativistic particle, in and out of canonical coordinates",
        "The evaluation's first start and the first seed of each model. One Hamiltonian network is given true momenta; the "
        "naive one is given velocities, which are no momenta here; the Lagrangian network is given velocities and asks for nothing "
        "else. After figure 3 of Cranmer et al. 2020.",
        f"Line charts of the velocity, a column a model. {'; '.join(said)}.",
    )


def wave(runs: Runs) -> Drawing | None:
    """Truth, prediction and difference in space and time: as figure 4 of the LNN paper, for all models."""
    film = Film(runs, "wave")
    if film.truth is None or not film.models:
        return None
    said, sites = [], film.true.shape[-1]
    columns = {"truth": film.true, **film.models}
    with drawing.drawn(2, len(columns), size=(1.9, 2.5)) as made:
        for j, (model, motion) in enumerate(columns.items()):
            difference = motion[:, 0] - film.true[:, 0]
            for i, (values, largest) in enumerate(((motion[:, 0], FIELD), (difference, DIFFERENCE))):
                axis = made.axes[i, j]
                axis.grid(False)
                if model == "truth" and i:
                    axis.set_axis_off()
                    continue
                image = axis.imshow(
                    np.nan_to_num(values, nan=largest),
                    cmap="PuOr",
                    vmin=-largest,
                    vmax=largest,
                    aspect="auto",
                    origin="lower",
                    extent=(0, sites, float(film.time[0]), float(film.time[-1])),
                )
                axis.tick_params(labelsize=8)
                if j:
                    axis.set_yticklabels([])
                if j == len(columns) - 1:
                    made.figure.colorbar(image, ax=axis, label="field" if i == 0 else "difference", extend="both", fraction=0.1)
            made.axes[0, j].set_title(label(model), fontsize=11)
            if model != "truth":
                made.axes[1, j].set_xlabel("site", fontsize=9)
                said.append(f"{label(model)}: largest difference {number(float(np.nanmax(np.abs(difference))))}")
        made.axes[0, 0].set_ylabel("time [grid units]\nfield", fontsize=9)
        made.axes[1, 1].set_ylabel("time [grid units]\nprediction − truth", fontsize=9)
    return made.finished(
        "wave",
        "Wave on a ring, in space and time",
        f"The published pulse on a ring of {sites} sites for 3.5 passes, by the first seed of each model, trained on rings of 16. Above the field, "
        "below prediction minus truth, its colours ten times as sensitive: a tint all over is a mean that "
        "drifts. After figure 4 of Cranmer et al. 2020.",
        f"Images of the field over space and time, a column a model. {'; '.join(said)}.",
    )


PICTURES = (double_pendulum, relativistic_particle, wave)


def all_of(runs: Runs) -> Iterator[Drawing]:
    """Those for which there are runs."""
    for picture in PICTURES:
        if picture.__name__ in runs.preset["systems"] and (made := picture(runs)) is not None:
            yield made


# animations -----------------------------------------------------------------------------------------------------------


def animations(runs: Runs, output: Path) -> list[Path]:
    """double_pendulum.gif and wave.gif of a results folder, where there are runs: the truth beside four models, from one start."""
    written = []
    for system, draw in (("double_pendulum", _pendulum_frames), ("wave", _wave_frames)):
        if system not in runs.preset["systems"]:
            continue
        film = Film(runs, system)
        company = [model for model in COMPANY if model in film.models]
        if film.truth is not None and company:
            path = output / "figures" / f"{system}.gif"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, _gif(*draw(film, company)))
            written.append(path)
    return written


def _gif(frames, milliseconds: int) -> bytes:
    """An endless animation with one palette for all frames."""
    from PIL import Image

    images = [Image.fromarray(frame) for frame in frames]
    palette = images[len(images) // 2].quantize(64, dither=Image.Dither.NONE)
    quantized = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    file = io.BytesIO()
    quantized[0].save(file, "gif", save_all=True, append_images=quantized[1:], duration=milliseconds, loop=0, optimize=False)
    return file.getvalue()


def _pendulum_frames(film: Film, company: list[str]):
    shown = np.flatnonzero(film.time <= SHORT)
    motions = {"truth": film.true, **{model: film.models[model] for model in company}}

    def frames():
        with drawing.still(len(motions), size=(1.5, 1.75)) as (figure, axes):
            lines = []
            for axis, (model, motion) in zip(axes, motions.items(), strict=True):
                axis.set(xlim=(-2.15, 2.15), ylim=(-2.15, 2.15), aspect="equal", xticks=[], yticks=[])
                axis.set_title(label(model), fontsize=9, color="black")
                shade = "black" if model == "truth" else colour(model)
                (trail,) = axis.plot([], [], color=shade, lw=0.8, alpha=0.4)
                (rods,) = axis.plot([], [], "o-", color=shade, lw=2, ms=5)
                lines.append((trail, rods, _joints(motion[shown, 0], film.system)))
            clock = figure.text(0.5, 0.02, "", ha="center", fontsize=8)

            def move(i: int) -> None:
                for trail, rods, points in lines:
                    rods.set_data(*points[i].T)
                    trail.set_data(*points[max(0, i - 10) : i + 1, 2].T)
                clock.set_text(f"{film.time[shown[i]]:.1f} s")

            yield from drawing.photographs(figure, [clock, *(part for line in lines for part in line[:2])], move, len(shown))

    return frames(), 100


def _joints(θ: np.ndarray, system) -> np.ndarray:
    """Pivot and bobs [time, 3, 2] of angles [time, 2] from straight down."""
    steps = np.stack([np.sin(θ), -np.cos(θ)], axis=-1) * np.array([system.l1, system.l2])[:, None]
    return np.concatenate([np.zeros((len(θ), 1, 2)), np.cumsum(steps, axis=1)], axis=1)


def _wave_frames(film: Film, company: list[str]):
    def frames():
        with drawing.still(len(company), size=(1.9, 1.6)) as (figure, axes):
            lines = []
            for axis, model in zip(axes, company, strict=True):
                axis.set(ylim=(-1.15, 1.15), xlim=(0, film.true.shape[-1] - 1), xticks=[], yticks=[-1, 0, 1])
                axis.tick_params(labelsize=7)
                axis.set_title(label(model), fontsize=9, color="black")
                (truth,) = axis.plot(film.true[0, 0], color="0.6", lw=3)
                (predicted,) = axis.plot(film.models[model][0, 0], color=colour(model), lw=1.4)
                lines.append((truth, predicted, film.models[model]))
            clock = figure.text(0.5, 0.02, "", ha="center", fontsize=8)

            def move(i: int) -> None:
                for truth, predicted, motion in lines:
                    truth.set_ydata(film.true[i, 0])
                    predicted.set_ydata(motion[i, 0])
                clock.set_text(f"{film.time[i] / film.true.shape[-1]:.2f} passes around the ring; grey: truth")

            yield from drawing.photographs(figure, [clock, *(part for line in lines for part in line[:2])], move, len(film.time))

    return frames(), 120
