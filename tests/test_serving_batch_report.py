"""The report of a batch: its table, and its page in a real browser."""

import json
import re
import shutil
from contextlib import contextmanager

import pytest
from batch_entries import ACQUIRED, Folder, done, failed, flood, landslide, volcano

from serving.batch.footprints import href
from serving.batch.report import TONES, write_report
from serving.batch.report_page import Column, Page, Row, rings_of, write_page

HOSTILE = "</script><img src=x onerror=window.pwned=1>\"'&{{7*7}}"
PICTURE = b"\x89PNG\r\n\x1a\n"


def scenes():
    """Return a scene of each kind, and one whose name would be markup."""
    return [
        done("dry", flood(flood_km2=0), bounds=(5e5, 4.0e6, 5.1e5, 4.01e6), acquired=None),
        failed("broken", code="truncated", message="given half of it; expected <all>"),
        done(HOSTILE, flood(flood_km2=3, water_km2=4), warnings=["assumed <b>ascending</b>"]),
        done("slides", landslide(), bounds=(5e5, 4.3e6, 5.1e5, 4.31e6)),
        done("picture", volcano(0.9), crs="", products={}),
        done("blind", flood(flood_km2=0, water_km2=0), status="empty", seen=0.0),
    ]


def rows_of(page):
    """Return the rows that the page's script reads."""
    return json.loads(re.search(r'id="rows">(.*?)</script>', page, re.DOTALL)[1])


def test_the_table_has_every_figure_of_every_scene(tmp_path):
    """Ranks, findings, figures and outlines; what is not known is null; QGIS and geopandas find the geometry."""
    from pyarrow import parquet
    from shapely import from_wkb

    written = write_report(scenes(), Folder(tmp_path))
    assert written == {"report": "report.html", "report_table": "report.parquet"}
    table = parquet.read_table(tmp_path / "report.parquet")
    rows = {row["id"]: row for row in table.to_pylist()}
    assert rows.keys() == {entry.id for entry in scenes()}
    flooded, broken = rows[HOSTILE], rows["broken"]
    assert (flooded["rank"], flooded["flood_km2"], flooded["acquired"]) == (1, 3, ACQUIRED)
    assert (rows["slides"]["rank"], rows["slides"]["expected_landslides_interval"]) == (2, [5, 20])
    assert (rows["dry"]["rank"], rows["dry"]["finding"], rows["dry"]["acquired"]) == (None, "nothing", None)
    assert (broken["code"], broken["finding"], broken["geometry"]) == ("truncated", "failed", None)
    assert (rows["picture"]["deformation_probability"], rows["picture"]["geometry"]) == (0.9, None)
    assert rows["blind"]["finding"] == "unknown"
    assert from_wkb(rows["dry"]["geometry"]).bounds == pytest.approx((-3, 36.14, -2.89, 36.24), abs=0.01)
    geo = json.loads(table.schema.metadata[b"geo"])
    assert geo["columns"][geo["primary_column"]]["encoding"] == "WKB"


def test_a_batch_without_scenes_has_an_empty_table_and_a_page(tmp_path):
    """Nothing to score is no error."""
    from pyarrow import parquet

    write_report([], Folder(tmp_path))
    assert parquet.read_table(tmp_path / "report.parquet").num_rows == 0
    assert rows_of((tmp_path / "report.html").read_text()) == []


def test_the_table_is_written_in_groups(tmp_path, monkeypatch):
    """Rows leave memory in groups, and none is lost between them."""
    from pyarrow import parquet

    from serving.batch import report

    monkeypatch.setattr(report, "GROUP", 2)
    write_report(scenes(), Folder(tmp_path))
    file = parquet.ParquetFile(tmp_path / "report.parquet")
    assert (file.metadata.num_rows, file.metadata.num_row_groups) == (6, 4)
    file.close()


def test_nothing_is_written_when_the_journal_breaks(tmp_path):
    """Whole or not at all."""

    def broken():
        yield done("a", flood())
        raise OSError("the journal ended")

    with pytest.raises(OSError, match="the journal ended"):
        write_report(broken(), Folder(tmp_path))
    assert Folder(tmp_path).names == []


def test_no_name_leaves_the_element_it_stands_in(tmp_path):
    """The page asks for nothing from a network, runs only its own script, and holds names as text."""
    write_report(scenes(), Folder(tmp_path))
    page = (tmp_path / "report.html").read_text()
    assert page.count("</script>") == 3
    assert "<img src=x" not in page
    assert not re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?(?:https?:)?//""", page)
    assert "default-src 'none'" in page
    assert "innerHTML" not in page
    hostile = next(row for row in rows_of(page) if row["c"][2] == HOSTILE)
    assert hostile["i"].startswith("./flood/%3C/script%3E%3Cimg%20src%3Dx")


def test_links_are_relative_and_quoted():
    """A name with a scheme, a hash or a query stays a name."""
    assert href("flood/javascript:alert(1)/a #?.png") == "./flood/javascript%3Aalert%281%29/a%20%23%3F.png"


def test_an_outline_keeps_its_corners_and_loses_its_points():
    """The map draws four corners of a scene, and holes of a zone."""
    ring = [[0, 0], [0.5, 0], [1, 0], [1, 1], [0, 1], [0, 0]]
    hole = [[0.2, 0.2], [0.2, 0.8], [0.8, 0.8], [0.8, 0.2], [0.2, 0.2]]
    outer, inner = rings_of({"type": "Polygon", "coordinates": [ring, hole]})
    assert sorted(outer) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert len(inner) == 4


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
    assert [url for url in asked if not url.startswith(("file://", "data:"))] == []


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


@pytest.mark.slow
def test_a_browser_opens_the_report_sorts_filters_and_shows_a_scene(browser, tmp_path):
    """Ranked first, then by what is asked; failures with code and reason; names of any kind are text."""
    write_report(scenes(), Folder(tmp_path))
    write_quicklooks(tmp_path, scenes())
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
