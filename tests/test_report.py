"""Pictures and the report: the same bytes from the same results, everything said in words too, and nothing fetched from anywhere."""

import re
import shutil
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from planted import FEW, fill_everything, write

from bench import cli, derived, drawing, figures, films, grid, results
from bench.claims import CLAIMS, COLUMNS
from bench.table1 import TableOne

VOID = {"meta", "link", "br", "img", "input", "hr"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    output = tmp_path_factory.mktemp("report") / "results"
    fill_everything(output, FEW)
    derived.write(output)
    return output


class Page(HTMLParser):
    """Elements of a page by name, with their attributes; raises if they are not nested."""

    def __init__(self, text):
        super().__init__()
        self.open, self.found = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag):
        return [attrs for name, attrs in self.found if name == tag]


def test_everything_is_the_same_bytes_again(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    files = [p.relative_to(copy) for p in copy.rglob("*") if p.is_file() and "runs" not in p.parts]
    assert {"report.html", "double_pendulum.gif", "wave.gif", *(f"{f.__name__}.svg" for f in (*figures.FIGURES, *films.PICTURES))} <= {
        p.name for p in files
    }
    for file in files:
        if file.name != ".lock" and not file.name.endswith("1.json") and file.name not in results.MANIFESTS:
            (copy / file).unlink()
    derived.write(copy)
    assert [file for file in files if (copy / file).read_bytes() != (folder / file).read_bytes()] == []


def test_pictures_are_drawn_again_only_when_something_has_changed(folder, tmp_path, monkeypatch):
    copy, drawn = shutil.copytree(folder, tmp_path / "copy"), []
    monkeypatch.setattr(figures, "all_of", lambda runs: drawn.append("figures") or [])
    monkeypatch.setattr(films, "all_of", lambda runs: drawn.append("films") or [])
    derived.write(copy)
    assert drawn == []
    (copy / "report.html").write_text("damaged")
    derived.write(copy)
    assert drawn == ["films", "figures"]
    write(copy, grid.Cell(FEW, "wave", "lnn"), 1, error=0.5)
    derived.write(copy)
    assert drawn == ["films", "figures"] * 2


def test_the_page_is_whole_and_fetches_nothing(folder):
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    ids = [attrs["id"] for _, attrs in page.found if "id" in attrs]
    assert len(ids) == len(set(ids))
    ticks = [attrs for attrs in page.all("button") if "aria-controls" in attrs]
    assert len(ticks) == len(CLAIMS) * len(COLUMNS)
    assert {attrs["aria-controls"] for attrs in ticks} <= set(ids)
    links = [attrs.get("href") or attrs.get("xlink:href") or attrs.get("src") for _, attrs in page.found]
    assert {link[0] for link in links if link and not link.startswith("data:")} == {"#"}
    assert {link[1:] for link in links if link and link.startswith("#")} <= set(ids)
    assert not re.search(r"@import|url\((?!#)", text)
    assert not re.search(r"(?<!xmlns=\")(?<!xmlns:xlink=\")https?://", text)


def test_every_figure_is_told_in_words(folder):
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    pictures = page.all("svg")
    published_loss = 1
    assert len(pictures) == len(figures.FIGURES) + len(films.PICTURES) + published_loss == len(page.all("figcaption"))
    for picture in pictures:
        assert picture["role"] == "img"
        title, description = picture["aria-labelledby"].split()
        assert {title, description} <= {attrs.get("id") for _, attrs in page.found}
    for path in (folder / "figures").glob("*.svg"):
        words = ElementTree.parse(path).getroot().findtext("{http://www.w3.org/2000/svg}desc")
        assert words, path.name
        assert len(words) > 40, path.name


def test_a_model_has_one_colour_everywhere_and_the_colours_can_be_told_apart():
    shades = {model: drawing.colour(model) for model in COLUMNS}
    assert len(set(shades.values())) == len(COLUMNS)
    assert drawing.colour("a_new_row") not in shades.values()


def test_numbers_of_the_report_are_those_of_the_results(folder):
    text = (folder / "report.html").read_text(encoding="utf-8")
    table = TableOne(folder)
    for cell in table.cells.values():
        (panel,) = re.findall(rf'<article id="evidence-{cell.claim.name}-{cell.column}".*?</article>', text, re.DOTALL)
        named = set(re.findall(r"<code>([a-z_0-9]+-[a-z_0-9]+-s\d+-[0-9a-f]{12})</code>", panel))
        assert named == {row["run"] for model in cell.models for system in cell.claim.systems() for row in table.of_cell(model, system)}
        assert all((folder / "runs" / run / "result.json").exists() for run in named)
    values = re.findall(r'<td data-value="([0-9.e-]+|Infinity|)">', text)
    known = {repr(value) for row in table.rows.values() for run in row.values() for value in run["metrics"].values()}
    assert {value for value in values if value and "." in value and float(value) < 1} <= known | {"0.0"}


def test_every_row_of_a_markdown_table_has_as_many_cells_as_its_head(folder):
    pages = sorted(folder.glob("*.md"))
    assert {"table.md", "table1.md", "published.md", "symmetry.md"} <= {page.name for page in pages}
    for page in pages:
        lines = page.read_text(encoding="utf-8").splitlines()
        for before, line in pairwise(lines):
            if before.startswith("|") and line.startswith("|"):
                assert before.count("|") == line.count("|"), (page.name, line)


def test_animations_are_small_and_move(folder):
    for name in ("double_pendulum", "wave"):
        path = folder / "figures" / f"{name}.gif"
        assert path.stat().st_size < 1_000_000
        with Image.open(path) as animation:
            first = np.asarray(animation.convert("RGB"), float)
            animation.seek(animation.n_frames - 1)
            assert np.abs(np.asarray(animation.convert("RGB"), float) - first).max() > 50
            assert animation.info["loop"] == 0


def test_a_folder_with_few_runs_has_a_report_too(tmp_path, capsys):
    output = tmp_path / "results"
    preset = replace(FEW, systems=("wave",), models=("mlp",), seeds=(0,))
    grid.write_manifest(output, "smoke", preset)
    write(output, grid.Cell(preset, "wave", "mlp"), 0)
    assert cli.main(["table", str(output)]) == 1, "the floors are missing"
    assert (output / "report.html").exists()
    assert not list((output / "figures").glob("*.gif")), "there is no truth to show beside it"
    for tick in re.findall(r'<button class="tick ([a-z ]+)"', (output / "report.html").read_text(encoding="utf-8")):
        assert tick.split()[0] in ("open", "no")


def test_a_model_that_is_new_has_its_place_in_the_figures(folder, tmp_path):
    runs = TableOne(folder)
    runs.preset = {**runs.preset, "models": (*runs.preset["models"], "my_model")}
    runs.rows["wave", "my_model"] = runs.rows["wave", "lnn"]
    assert "my_model" in figures.models_of(runs, "wave")
    assert "my_model on wave" in figures.energy(runs).description
    assert "my_model" in films.wave(runs).description


def test_an_interval_of_a_figure_covers_the_median_and_grows_with_the_spread():
    random = np.random.default_rng(1)
    errors = [np.exp(random.normal(size=(40, 3)) * np.array([0.0, 0.1, 1.0])) for _ in range(6)]
    middle, low, high = figures.band(errors)
    assert ((low <= middle) & (middle <= high)).all()
    width = np.log(high / low)
    assert width[0] == 0
    assert 0 < width[1] < width[2]


def test_a_table_in_a_terminal_points_to_the_report(folder, capsys):
    assert cli.main(["table", str(folder)]) == 0
    assert "report.html" in capsys.readouterr().out


def test_a_legend_takes_as_many_columns_as_its_figure_has_room_for():
    for width, fits in ((4.0, 1), (30.0, 5)):
        with drawing.drawn(1, 1, size=(width, 3.0)) as made:
            for i in range(5):
                made.axes[0, 0].plot([0, 1], [i, i + 1], label=f"a rather long name of a curve, number {i}")
            made.legend(columns=5)
            (legend,) = made.figure.legends
            assert legend._ncols == fits
            assert fits == 1 or legend.get_window_extent().width <= made.figure.bbox.width
