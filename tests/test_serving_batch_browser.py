"""Reports in a real browser: Debian's chromium, without a window and without a network."""

import json
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from batch_entries import HOSTILE, Folder, one_of_each

from serving.batch.report import TONES, write_report
from serving.batch.report_page import Column, Page, Row, write_page

LOADED = """
    const done = arguments[0];
    const look = () => [...document.images].every((picture) => picture.complete) ? done() : setTimeout(look, 50);
    look();"""
"""Answers when every picture was read."""


@pytest.fixture(scope="module")
def browser():
    """Return Debian's chromium without a window."""
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("chromium and chromium-driver are not installed")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1440,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@contextmanager
def opened(browser, path):
    """Open a page, and see on leaving that it ran without an error and asked for nothing but files."""
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(path.as_uri())
    yield browser.execute_script
    errors = [entry["message"] for entry in browser.get_log("browser")]
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"]
    assert errors == []
    assert asked, "the page itself is a request"
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def names(script):
    """Return the scenes that the table shows, in its order."""
    return script("return [...document.querySelectorAll('#body td.name')].map((cell) => cell.textContent)")


def write_quicklooks(folder, entries):
    """Write a picture where each entry says that one is."""
    from PIL import Image

    for entry in entries:
        name = entry.result and entry.result.products.get("quicklook")
        if name:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (80, 60), (0, 114, 178)).save(folder / name)


def test_a_browser_opens_the_report_sorts_filters_and_shows_a_scene(browser, tmp_path):
    """Ranked first, then by what is asked; failures with code and reason; names of any kind are text."""
    write_report(one_of_each(), Folder(tmp_path))
    write_quicklooks(tmp_path, one_of_each())
    with opened(browser, tmp_path / "report.html") as script:
        assert names(script)[:3] == [HOSTILE, "slides", "picture"]
        assert script("return document.querySelector('#detail h3').textContent") == HOSTILE
        assert script("return window.pwned") is None
        script("[...document.querySelectorAll('#head button')].find((b) => b.textContent === 'Scene').click()")
        assert names(script)[1:] == ["blind", "broken", "dry", "picture", "slides"]
        script("[...document.querySelectorAll('#head button')].find((b) => b.textContent === 'Scene').click()")
        assert names(script)[:-1] == ["slides", "picture", "dry", "broken", "blind"]
        script("document.querySelector('[data-find=truncated]').click()")
        assert names(script) == ["broken"]
        script("document.querySelector('#body tr.row').click()")
        assert "expected <all>" in script("return document.querySelector('#detail').textContent")
        script("document.querySelector('#reset').click()")
        assert len(names(script)) == 6
        drawn = """
            const pen = document.querySelector('#map').getContext('2d'), seen = new Set();
            const {data} = pen.getImageData(0, 0, pen.canvas.width, pen.canvas.height);
            for (let at = 0; at < data.length; at += 4) if (data[at + 3] === 255) seen.add(data[at]);
            return seen.size"""
        assert script(drawn) > 2


@pytest.mark.slow
def test_a_browser_opens_a_page_of_twenty_thousand_rows(browser, tmp_path):
    """Only the rows in view are elements, at the top and at the end."""
    page = Page(
        title="Many",
        subtitle="",
        noun="scene",
        search="Search",
        columns=(Column("Rank", "rank", "10%"), Column("Scene", "name", "auto"), Column("Finding", "finding", "50%")),
        tones=TONES,
        without_script="",
    )

    def row(number):
        west, south = number % 200 * 0.05, number // 200 * 0.05
        ring = [(west, south), (west + 0.04, south), (west + 0.04, south + 0.04), (west, south + 0.04)]
        return Row(cells=(20_000 - number, f"scene {number}", "found"), tone="found", rings=[ring])

    with (tmp_path / "many.html").open("wb") as file:
        write_page(file, page, map(row, range(20_000)))
    with opened(browser, tmp_path / "many.html") as script:
        assert script("return document.querySelector('#count').textContent") == "20,000 of 20,000 scenes"
        assert names(script)[0] == "scene 19999"
        script("document.querySelector('#list').scrollTop = 1e9")
        browser.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
        assert names(script)[-1] == "scene 0"
        assert len(names(script)) < 60


@pytest.mark.slow
@pytest.mark.data
def test_a_browser_opens_the_report_of_all_real_chips_and_three_broken_files(browser, data, tmp_path):
    """What the command writes of real floods is opened: ranked, with pictures, and failures with their codes."""
    chips = sorted((data / "sen1floods11/v1.1/data/flood_events/HandLabeled/S1Hand").glob("*.tif"))
    whole = chips[0].read_bytes()
    broken = {"empty": b"", "half": whole[: len(whole) // 2], "text": b"no raster at all"}
    for name, content in broken.items():
        (tmp_path / f"{name}.tif").write_bytes(content)
    paths = [*chips, *(tmp_path / f"{name}.tif" for name in broken)]
    (tmp_path / "manifest.csv").write_text("hazard,post\n" + "".join(f"flood,{path}\n" for path in paths))
    command = [
        Path(sys.executable).with_name("tocsin"),
        "batch",
        tmp_path / "manifest.csv",
        "-o",
        tmp_path / "out",
        "--json",
    ]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 7, ran.stderr
    result = json.loads(ran.stdout)
    assert {failure["id"] for failure in result["failures"]} == set(broken)
    with opened(browser, tmp_path / "out" / "report.html") as script:
        assert script("return document.querySelector('#count').textContent") == f"{len(paths)} of {len(paths)} scenes"
        browser.execute_async_script(LOADED)
        seen = script("return [...document.images].map((picture) => picture.naturalWidth)")
        assert len(seen) > len(chips) / 2
        assert min(seen) > 0
        for failure in result["failures"]:
            script(f"document.querySelector('[data-find={failure['code']}]').click()")
            assert failure["id"] in names(script)
    ranking = json.loads((tmp_path / "out" / "ranking.geojson").read_text())["features"]
    assert [feature["properties"]["rank"] for feature in ranking] == sorted(
        feature["properties"]["rank"] for feature in ranking
    )
