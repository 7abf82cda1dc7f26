"""The static STAC catalog of a batch."""

import json
import shutil
from datetime import UTC, datetime

import pystac
import pytest
from batch_entries import ACQUIRED, STARTED, Folder, done, failed, flood, volcano
from pystac.validation import validate_dict

from serving.batch.catalog import write_catalog
from serving.batch.entry import Entry
from tocsin.stac import MISSION_START


def load(folder, name):
    """Read a JSON file of the target."""
    return json.loads((folder / name).read_text(encoding="utf-8"))


def test_a_real_scene_is_found_from_the_catalog_after_the_folder_moved(
    score_flood, write_raster, backscatter, tmp_path
):
    """Catalog, collection and item are valid STAC, and links hold in another place."""
    out = tmp_path / "batch"
    post = write_raster(tmp_path / "a scene.tif", backscatter(64, 64), ACQUIRED="2026-01-01T00:00:00Z")
    result = score_flood(post, out=out / "flood/one")
    here = {name: f"flood/one/{path.rsplit('/', 1)[1]}" for name, path in result.products.items()}
    entry = Entry(
        id="one",
        hazard="flood",
        key=None,
        state="done",
        result=result.model_copy(update={"products": here}),
        seconds=1,
    )
    assert write_catalog([entry, failed("two")], Folder(out)) == {"catalog": "catalog.json"}
    shutil.move(out, tmp_path / "elsewhere")
    catalog = pystac.Catalog.from_file(str(tmp_path / "elsewhere/catalog.json"))
    (collection,) = catalog.get_children()
    (item,) = collection.get_items()
    assert (collection.id, item.id) == ("flood", result.scene.id)
    for each in (catalog, collection, item):
        validate_dict(json.loads(json.dumps(each.to_dict())) | {"stac_extensions": []})
    assert collection.extent.spatial.bboxes == [item.bbox]


def test_each_hazard_has_its_collection_and_nothing_failed_is_in_one(tmp_path):
    """Scenes that failed and pictures without a place are in the report only; every link is relative."""
    picture = done("p", volcano(0.9), crs="", products={"class": "volcano/p/p_class.tif"})
    write_catalog([done("a", flood()), failed("b"), done("c", volcano(0.9)), picture], Folder(tmp_path))
    assert Folder(tmp_path).names == ["catalog.json", "flood/collection.json", "volcano/collection.json"]
    children = [link["href"] for link in load(tmp_path, "catalog.json")["links"] if link["rel"] == "child"]
    assert children == ["./flood/collection.json", "./volcano/collection.json"]
    items = [link["href"] for link in load(tmp_path, "volcano/collection.json")["links"] if link["rel"] == "item"]
    assert items == ["./c/c_item.json"]


def test_the_extent_holds_every_scene(tmp_path):
    """The box is around all scenes, times run from the first to the last, an unknown one from the mission's start."""
    later = datetime(2026, 2, 1, tzinfo=UTC)
    south = done("s", flood(), bounds=(5e5, 8e5, 5.1e5, 8.1e5), acquired=later)
    write_catalog([done("n", flood(), acquired=ACQUIRED), south], Folder(tmp_path))
    extent = load(tmp_path, "flood/collection.json")["extent"]
    west, low, east, high = extent["spatial"]["bbox"][0]
    assert (round(west, 3), round(low, 1), round(high, 1)) == (-3.0, 7.2, 37.9)
    assert east == pytest.approx(-2.909, abs=1e-3)
    assert extent["temporal"]["interval"] == [["2025-12-31T06:00:00Z", "2026-02-01T00:00:00Z"]]
    write_catalog([done("n", flood(), acquired=None)], Folder(tmp_path))
    start, end = load(tmp_path, "flood/collection.json")["extent"]["temporal"]["interval"][0]
    assert datetime.fromisoformat(start) == MISSION_START
    assert datetime.fromisoformat(end) == STARTED


def test_a_scene_across_the_antimeridian_widens_the_box_to_all_longitudes(tmp_path):
    """Two halves of a scene at both ends of the map are no narrow box in its middle."""
    crossing = done("x", flood(), crs="EPSG:4326", bounds=(179.9, -17.1, 180.1, -17.0))
    write_catalog([crossing, done("a", flood())], Folder(tmp_path))
    box = load(tmp_path, "flood/collection.json")["extent"]["spatial"]["bbox"][0]
    assert (box[0], box[2]) == (-180, 180)


def test_a_batch_without_scenes_has_a_valid_catalog(tmp_path):
    """Nothing was done: the catalog is there and empty."""
    write_catalog([failed("a")], Folder(tmp_path))
    assert Folder(tmp_path).names == ["catalog.json"]
    validate_dict(load(tmp_path, "catalog.json"))


def test_an_older_catalog_stays_when_writing_fails(tmp_path):
    """Whole or not at all: what raises half-way leaves what was there."""
    write_catalog([done("old", flood())], Folder(tmp_path))
    before = {name: (tmp_path / name).read_bytes() for name in Folder(tmp_path).names}

    def broken():
        yield done("new", flood())
        raise OSError("the journal ended")

    with pytest.raises(OSError, match="the journal ended"):
        write_catalog(broken(), Folder(tmp_path))
    assert {name: (tmp_path / name).read_bytes() for name in Folder(tmp_path).names} == before
