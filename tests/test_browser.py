"""The report in a real browser: evidence opens, tables sort, a phone and dark mode are served, and no request leaves the page."""

import json
import shutil

import pytest
from planted import FEW, fill_everything

from bench import figures, films
from bench.claims import CLAIMS, COLUMNS
from bench.report import write
from bench.table1 import TableOne

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no Chromium with its driver: on Debian and Ubuntu, apt install chromium chromium-driver"
)
PHONE = 390  # CSS pixels


@pytest.fixture(scope="module")
def browser():
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--window-size=1300,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER))
    yield browser
    browser.quit()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    output = tmp_path_factory.mktemp("browser") / "results"
    fill_everything(output, FEW)
    table = TableOne(output)
    write(table, [films.wave(table), figures.overview(table)], output)
    return (output / "report.html").as_uri()


@pytest.fixture
def page(browser, report):
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(report)
    yield browser
    for name in ("Emulation.clearDeviceMetricsOverride", "Emulation.setEmulatedMedia"):
        browser.execute_cdp_cmd(name, {})
    assert [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"] == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"}
    assert {url for url in asked if not url.startswith("data:")} == {report}


def all_of(page, selector):
    from selenium.webdriver.common.by import By

    return page.find_elements(By.CSS_SELECTOR, selector)


def test_evidence_is_one_click_behind_each_tick(page):
    ticks = all_of(page, ".tick")
    assert len(ticks) == len(CLAIMS) * len(COLUMNS)
    for tick in ticks:
        page.execute_script("arguments[0].click()", tick)
        shown = [panel for panel in all_of(page, ".evidence") if panel.is_displayed()]
        assert [panel.get_attribute("id") for panel in shown] == [tick.get_attribute("aria-controls")]
        assert tick.get_attribute("aria-expanded") == "true"
        assert tick.text in shown[0].text
    page.execute_script("arguments[0].click()", ticks[-1])
    assert not [panel for panel in all_of(page, ".evidence") if panel.is_displayed()]


def test_tables_sort_by_number_both_ways_and_what_is_missing_stays_last(page):
    table = all_of(page, ".sortable")[0]
    heads = all_of(table, "thead th")
    for i, head in enumerate(heads[1:], start=1):
        for direction in ("ascending", "descending"):
            page.execute_script("arguments[0].click()", all_of(head, "button")[0])
            assert head.get_attribute("aria-sort") == direction
            texts = [cell.get_attribute("data-value") for cell in all_of(table, f"tbody tr td:nth-child({i + 1})")]
            there = [text for text in texts if text]
            assert texts[: len(there)] == there
            values = [float(text.replace("Infinity", "inf")) for text in there]
            assert values == sorted(values, reverse=direction == "descending")
    page.execute_script("arguments[0].click()", all_of(heads[0], "button")[0])
    names = [cell.text for cell in all_of(table, "tbody th")]
    assert names == sorted(names, key=str.casefold)


def test_nothing_overflows_on_a_phone(page):
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": PHONE, "height": 844, "deviceScaleFactor": 2, "mobile": True})
    for tick in [None, *all_of(page, ".tick")]:
        if tick is not None:
            page.execute_script("arguments[0].click()", tick)
        assert page.execute_script("return document.documentElement.scrollWidth") <= PHONE
    wide = """return [...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll') && e.getBoundingClientRect().right > innerWidth + 1)
              .map(e => e.tagName + '.' + e.className)"""
    assert page.execute_script(wide) == []
    sizes = page.execute_script("return [...document.querySelectorAll('p, li, td, th, button')].map(e => parseFloat(getComputedStyle(e).fontSize))")
    assert min(sizes) >= 12


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_in_dark(page, scheme):
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    colours = """const rgb = text => text.match(/[0-9.]+/g).slice(0, 3).map(Number);
        const light = c => { const [r, g, b] = rgb(c).map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
                             return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
        const paper = light(getComputedStyle(document.body).backgroundColor);
        return [...document.querySelectorAll('p, td, small, a, .tick, svg text')].map(e => {
          const ink = light(e.namespaceURI.includes('svg') ? getComputedStyle(e).fill : getComputedStyle(e).color);
          return [e.closest('svg') ? 'svg' : e.tagName, (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05), paper]; });"""
    found = page.execute_script(colours)
    assert (found[0][2] > 0.5) == (scheme == "light")
    # a heat map writes on its own colours
    assert not [(what, ratio) for what, ratio, _ in found if what != "svg" and ratio < 4.5]
    assert sum(ratio > 4.5 for what, ratio, _ in found if what == "svg") > 100
