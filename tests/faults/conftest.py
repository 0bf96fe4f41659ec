"""Fault tests: what is injected, what must be, what was measured; in full they write docs/reliability.md.

`make faults`; `pytest tests/faults --short` is a part of each, for every push.
"""

import random
import signal
import threading
import time
from pathlib import Path

import pytest
from filelock import FileLock
from scene import ROOT, TINY, Scene

from bench import identity

PAGE = ROOT / "docs" / "reliability.md"
MARKS = ("<!-- faults -->", "<!-- /faults -->")
rows: dict[str, dict] = {}


def pytest_addoption(parser):
    parser.addoption("--short", action="store_true", help="a part of each fault test, in less than five minutes")


def pytest_configure(config):
    config.addinivalue_line("markers", "fault(number, inject, must): a row of docs/reliability.md")
    config.addinivalue_line("markers", "full: left out of the short form, since it takes a minute or more")
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where this runs in the background, and then by all it starts


def pytest_collection_modifyitems(config, items):
    if config.getoption("--short"):
        for item in items:
            if item.get_closest_marker("full"):
                item.add_marker(pytest.mark.skip(reason="left out of the short form: make faults"))


@pytest.fixture
def short(request) -> bool:
    """Whether only a part is wanted."""
    return request.config.getoption("--short")


@pytest.fixture
def measured(record_property):
    """Call with what was measured: the last column of the table."""
    return lambda text: record_property("measured", text)


@pytest.fixture
def chance(request) -> random.Random:
    """Random numbers: others in every session, and the seed is told when a test fails."""
    seed = time.time_ns() % 10**6
    request.node.add_report_section("setup", "chance", f"seed {seed}")
    return random.Random(seed)


@pytest.fixture(scope="session")
def warm(tmp_path_factory) -> Path:
    """A cache with the data and compiled programs of the tiny grid, made once for all processes of the tests."""
    base = tmp_path_factory.getbasetemp()
    place = base.parent / "warm" if base.name.startswith("popen-") else base / "warm"
    with FileLock(place.with_suffix(".lock")):
        if not (place / "whole").exists():
            scene = Scene(place / "scene")
            scene.run(*TINY)
            (place / "whole").touch()
    return place / "scene" / "results" / "cache"


@pytest.fixture
def scene(tmp_path, warm) -> Scene:
    """A copy of the checkout with a warm cache and no results."""
    return Scene(tmp_path / "scene", warm=warm)


@pytest.fixture(scope="session")
def expected(warm) -> dict[str, tuple]:
    """The outcome of the tiny grid when nothing disturbs it."""
    return Scene.outcome(None, warm.parents[1] / "results/latest/smoke")  # pyright: ignore[reportArgumentType]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if mark := item.get_closest_marker("fault"):
        report.user_properties += [("fault", mark.args)] if call.when == "call" else []
    return report


def pytest_runtest_logreport(report):
    properties = dict(report.user_properties)
    if report.when == "call" and "fault" in properties:
        number, inject, must = properties["fault"]
        row = {"inject": inject, "must": must, "measured": properties.get("measured", ""), "outcome": report.outcome, "seconds": report.duration}
        rows[number] = row


def pytest_terminal_summary(terminalreporter, config):
    if hasattr(config, "workerinput"):
        return
    passed = sum(row["outcome"] == "passed" for row in rows.values())
    for number, row in sorted(rows.items(), key=_order):
        line = f"{number:4} {row['outcome']:8} {row['seconds']:4.0f} s  {row['inject']}: {row['measured']}"
        terminalreporter.write_line(line)
    terminalreporter.write_line(f"{passed} of {len(rows)} fault tests")
    whole = not config.getoption("--short") and not config.option.keyword and config.args == [str(Path("tests/faults"))]
    if whole and rows and passed == len(rows):
        _write_page()
        terminalreporter.write_line(f"written: {PAGE.relative_to(ROOT)}")


def _order(item) -> tuple[str, int]:
    return item[0][0], int(item[0][1:])


def _write_page() -> None:
    """Puts the table between the marks of docs/reliability.md."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    lines = ["| # | inject | must | measured |", "|---|---|---|---|"]
    lines += [f"| {number} | {row['inject']} | {row['must']} | {row['measured']} |" for number, row in sorted(rows.items(), key=_order)]
    count = sum(number.startswith("F") for number in rows)
    versions = identity.versions()
    commit = identity.git("rev-parse", "--short=10", "HEAD") or "no commit"
    dirty = " with changes" if identity.git("status", "--porcelain", "--untracked-files=no") else ""
    seconds = sum(row["seconds"] for row in rows.values())
    where = f"Python {versions['python']}, jax {versions['jax']}, {identity.processor()}"
    lines += ["", f"{count} of {count} passed, {seconds:.0f} s of tests. Commit {commit}{dirty}, {where}."]
    PAGE.write_text(before + MARKS[0] + "\n\n" + "\n".join(lines) + "\n\n" + MARKS[1] + after, encoding="utf-8")
