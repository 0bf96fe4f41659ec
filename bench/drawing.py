"""How everything is drawn: colours, fonts, and SVG that is the same bytes from the same results, alone or inside a page."""

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

import systems
from bench.claims import COLUMNS
from bench.floors import FLOORS
from bench.sealed import write_atomically

# places in seaborn's colour-blind-safe palette, the same for a model everywhere
PLACES = {"lnn": 0, "second_order_ode": 1, "delan": 2, "hnn": 3, "hnn_naive": 4, "neural_ode": 5, "mlp": 9}
STYLES = {"truth": "--", "best_constant": ":"}
FONTS = "'DejaVu Sans', Verdana, sans-serif"  # the first has the widths that figures are laid out for
INK, GRID = "#121314", "#d4d5d6"  # of text and lines, and of grids: inside a page they become the page's own
STYLE: Any = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "axes.titlecolor"), INK),
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "none"),
    "grid.color": GRID,
    "legend.frameon": False,
    "svg.hashsalt": "leastaction",
    "svg.fonttype": "none",  # text stays text: small, and read aloud
    "font.family": "DejaVu Sans",
}


def colour(model: str):
    """Colour of a model in every figure; that of text for the truth, grey for other floors and for rows without a place."""
    return sns.color_palette("colorblind")[PLACES[model]] if model in PLACES else INK if model == "truth" else "0.5"


def line(model: str) -> str:
    """Style of its line."""
    return STYLES.get(model, "-")


def label(model: str) -> str:
    """What it is called in a figure."""
    return FLOORS[model].title.strip("*") if model in FLOORS else COLUMNS.get(model, model)


def unit_of_time(system: str) -> str:
    """On a lattice a wave passes a site in it."""
    return "grid units" if systems.get(system).spec.lattice else "s"


@dataclass(frozen=True)
class Drawing:
    """A finished figure."""

    name: str
    title: str
    caption: str  # for everyone
    description: str  # for who cannot see it
    svg: str

    def alone(self) -> bytes:
        """As a file: on white, with its title and description."""
        start = re.search(r"<svg [^>]*>", self.svg)
        assert start is not None
        head, rest = self.svg[: start.end()], self.svg[start.end() :]
        words = f"\n <title>{escape(self.title)}</title>\n <desc>{escape(self.description)}</desc>"
        return f'{head}{words}\n <rect width="100%" height="100%" fill="#ffffff"/>{rest}'.encode()

    def inline(self) -> str:
        """As a part of a page: in its colours, as wide as there is room, names of its parts its own."""
        svg = self.svg[self.svg.index("<svg ") :]
        svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
        svg = re.sub(r'(<image [^>]*?) id="[^"]+"', r"\1", svg)  # two images that are equal have one name, and nobody calls it
        svg = re.sub(r'\bid="([^"]+)"', rf'id="{self.name}-\1"', svg)
        svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{self.name}-\1)", svg)
        svg = re.sub(r'href="#([^"]+)"', rf'href="#{self.name}-\1"', svg)
        svg = svg.replace(INK, "currentColor").replace(GRID, "var(--grid)")
        _, _, width, height = re.search(r'viewBox="([^"]+)"', svg).group(1).split()  # pyright: ignore[reportOptionalMemberAccess]
        words = f'<title id="{self.name}-title">{escape(self.title)}</title><desc id="{self.name}-desc">{escape(self.description)}</desc>'
        names = f'role="img" aria-labelledby="{self.name}-title {self.name}-desc"'
        opening = (
            f'<svg viewBox="0 0 {width} {height}" style="min-width:{round(0.9 * float(width))}px" {names} xmlns:xlink="http://www.w3.org/1999/xlink">'
        )
        return re.sub(r"<svg [^>]*>", lambda _: opening + words, svg, count=1)


class Canvas:
    """A figure with axes [rows, columns] to draw on."""

    def __init__(self, figure, axes):
        self.figure, self.axes = figure, axes
        self.svg = ""

    def legend(self, columns: int = 5) -> None:
        """One for all axes, below them, in as many columns as the figure has room for."""
        handles = {text: handle for axis in self.axes.flat for handle, text in zip(*axis.get_legend_handles_labels(), strict=True)}
        for count in range(columns, 0, -1):
            legend = self.figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=count)
            if count == 1 or legend.get_window_extent().width <= self.figure.bbox.width:
                return
            legend.remove()

    def finished(self, name: str, title: str, caption: str, description: str) -> Drawing:
        """What was drawn, with its words."""
        return Drawing(name, title, caption, description, self.svg)


@contextmanager
def drawn(rows: int, columns: int, size: tuple[float, float]) -> Iterator[Canvas]:
    """A canvas whose axes are of `size` inches each; it has its `svg` when the block has ended."""
    with sns.axes_style("whitegrid"), sns.plotting_context("notebook"), plt.rc_context(STYLE):
        canvas = Canvas(*plt.subplots(rows, columns, figsize=(size[0] * columns, size[1] * rows), layout="constrained", squeeze=False))
        try:
            yield canvas
            file = io.StringIO()
            canvas.figure.savefig(file, format="svg", metadata={"Date": None})
            canvas.svg = file.getvalue().replace("'DejaVu Sans'", FONTS)
        finally:
            plt.close(canvas.figure)


@contextmanager
def still(columns: int, size: tuple[float, float], dots: int = 100):
    """(figure, its axes in a row) for the frames of an animation, of `size` inches each, on white; at the bottom there is room for a line."""
    with sns.axes_style("white"), plt.rc_context({"font.family": "DejaVu Sans"}):
        figure, axes = plt.subplots(1, columns, figsize=(size[0] * columns, size[1]), layout="constrained", dpi=dots, squeeze=False)
        room = 0.16 / size[1]  # of a line, as a share of the height
        figure.set_layout_engine("constrained", rect=(0, room, 1, 1 - room))
        try:
            yield figure, list(axes[0])
        finally:
            plt.close(figure)


def photographs(figure, moving: list, move: Callable[[int], None], frames: int) -> Iterator[np.ndarray]:
    """Pictures [height, width, 3] of an animation, of which only the `moving` parts are drawn anew; `move(i)` brings them to frame i."""
    for part in moving:
        part.set_animated(True)
    figure.canvas.draw()
    background = figure.canvas.copy_from_bbox(figure.bbox)
    for i in range(frames):
        figure.canvas.restore_region(background)
        move(i)
        for part in moving:
            figure.draw_artist(part)
        yield np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def write(made: Drawing, path: Path) -> None:
    """As a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, made.alone())
