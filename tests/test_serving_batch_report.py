"""The report of a batch: its table and its page."""

import json
import re

import pytest
from batch_entries import ACQUIRED, HOSTILE, Folder, done, flood, one_of_each

from serving.batch.footprints import href
from serving.batch.report import write_report
from serving.batch.report_page import rings_of


def rows_of(page):
    """Return the rows that the page's script reads."""
    return json.loads(re.search(r'id="rows">(.*?)</script>', page, re.DOTALL)[1])


def test_the_table_has_every_figure_of_every_scene(tmp_path):
    """Ranks, findings, figures and outlines; what is not known is null; QGIS and geopandas find the geometry."""
    from pyarrow import parquet
    from shapely import from_wkb

    written = write_report(one_of_each(), Folder(tmp_path))
    assert written == {"report": "report.html", "report_table": "report.parquet"}
    table = parquet.read_table(tmp_path / "report.parquet")
    rows = {row["id"]: row for row in table.to_pylist()}
    assert rows.keys() == {entry.id for entry in one_of_each()}
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
    write_report(one_of_each(), Folder(tmp_path))
    file = parquet.ParquetFile(tmp_path / "report.parquet")
    assert (file.metadata.num_rows, file.metadata.num_row_groups) == (6, 3)
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
    write_report(one_of_each(), Folder(tmp_path))
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
