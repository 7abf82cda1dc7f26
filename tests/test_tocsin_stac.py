"""The STAC item."""

from datetime import UTC, datetime

import jsonschema
import pystac
import pytest
from affine import Affine
from pystac.validation import validate_dict
from rasterio.crs import CRS

from tocsin.flood_request import item_words
from tocsin.grid import Grid
from tocsin.hazards.flood import CLASSES
from tocsin.result import FloodSummary, InputFile, Provenance, ResultWarning
from tocsin.stac import EXTENSIONS, MISSION_START, ItemFacts, build_item, footprint, write_item

UTM = Grid(CRS.from_epsg(32630), Affine(10, 0, 5e5, 0, -10, 4.2e6), 300, 400)
GEOGRAPHIC = Grid(CRS.from_epsg(4326), Affine(1e-4, 0, -0.5, 0, -1e-4, 38.0), 300, 400)
ANTIMERIDIAN = Grid(CRS.from_epsg(4326), Affine(1e-4, 0, 179.98, 0, -1e-4, -17.0), 300, 400)
OWN = Grid(CRS.from_string("+proj=laea +lat_0=50 +lon_0=7 +ellps=WGS84"), Affine(10, 0, 0, 0, -10, 0), 30, 40)
STARTED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
FILES = {
    "class": "a_class.tif",
    "probability": "a_probability.tif",
    "exclusion": "a_exclusion.tif",
    "polygons": "a_polygons.geojson",
    "geopackage": "a_polygons.gpkg",
    "quicklook": "a_quicklook.png",
}
# What the published schemas of the extensions ask of the fields that an item of ours has.
CLASS_SCHEMA = {
    "type": "object",
    "required": ["value", "name", "description"],
    "properties": {
        "value": {"type": "integer"},
        "name": {"type": "string", "pattern": "^[0-9A-Za-z-_]+$"},
        "title": {"type": "string"},
        "description": {"type": "string"},
        "color_hint": {"type": "string", "pattern": "^([0-9A-F]{6})$"},
        "nodata": {"type": "boolean"},
    },
    "additionalProperties": False,
}
BIT_SCHEMA = {
    "type": "object",
    "required": ["offset", "length", "classes"],
    "properties": {
        "offset": {"type": "integer", "minimum": 0},
        "length": {"type": "integer", "minimum": 1},
        "name": {"type": "string"},
        "classes": {"type": "array", "minItems": 1, "uniqueItems": True, "items": CLASS_SCHEMA},
    },
    "additionalProperties": False,
}
BAND_SCHEMA = {
    "type": "object",
    "required": ["data_type", "nodata"],
    "properties": {
        "data_type": {"enum": ["uint8", "uint16"]},
        "nodata": {"type": "number"},
        "scale": {"type": "number"},
        "offset": {"type": "number"},
    },
    "additionalProperties": False,
}


def facts(grid=UTM, acquired=datetime(2025, 12, 31, 6, 0, tzinfo=UTC), pre_acquired=None):
    """Build facts of a scene."""
    return ItemFacts(
        words=item_words(),
        scene_id="a",
        grid=grid,
        files=FILES,
        acquired=acquired,
        pre_acquired=pre_acquired,
        summary=FloodSummary(observed_km2=3, water_km2=1, flood_km2=None, permanent_km2=None, polygons=2),
        provenance=Provenance(
            model="flood",
            version="1.0.0",
            sha256="a" * 64,
            precision="fp32",
            runtime="onnx",
            device="cpu",
            threshold=0.5,
            tocsin="0.1.0",
            inputs=(InputFile(href="in/post.tif", sha256="b" * 64), InputFile(href="in/dem.tif", sha256="c" * 64)),
            resampled=None,
            started=STARTED,
            seconds=1.5,
        ),
        warnings=(ResultWarning(code="time_unknown", message="time unknown"),),
    )


@pytest.mark.parametrize("grid", [UTM, GEOGRAPHIC, ANTIMERIDIAN, OWN], ids=["utm", "lonlat", "180", "own"])
@pytest.mark.parametrize("acquired", [None, datetime(2025, 12, 31, 6, 0, tzinfo=UTC)])
def test_the_item_is_valid_stac(grid, acquired):
    """The core schema holds; those of the extensions are held against the tables above, without a network."""
    item = build_item(facts(grid, acquired))
    assert set(item["stac_extensions"]) == set(EXTENSIONS)
    validate_dict(item | {"stac_extensions": []})
    for asset in item["assets"].values():
        for band in asset.get("raster:bands", []):
            jsonschema.validate(band, BAND_SCHEMA)
        for one in asset.get("classification:classes", []):
            jsonschema.validate(one, CLASS_SCHEMA)
        for bit in asset.get("classification:bitfields", []):
            jsonschema.validate(bit, BIT_SCHEMA)
    properties = item["properties"]
    assert properties["proj:shape"] == list(grid.shape)
    assert len(properties["proj:transform"]) == 6
    assert (properties["proj:code"] is None) == ("proj:wkt2" in properties)
    assert pystac.Item.from_dict(item).id == "a"


def test_a_known_time_is_the_items_time():
    """The acquisition's time is the item's, and the pre-event time is told too."""
    item = build_item(facts(pre_acquired=datetime(2025, 12, 19, 6, 0, tzinfo=UTC)))
    assert item["properties"]["datetime"] == "2025-12-31T06:00:00Z"
    assert "start_datetime" not in item["properties"]
    assert item["properties"]["tocsin:pre_acquired"] == "2025-12-19T06:00:00Z"


def test_an_unknown_time_is_null_with_a_range_that_holds_it_for_certain():
    """From the first launch of the mission to the processing: nothing is invented."""
    properties = build_item(facts(acquired=None))["properties"]
    assert properties["datetime"] is None
    assert properties["start_datetime"] == MISSION_START.isoformat().replace("+00:00", "Z")
    assert properties["end_datetime"] == "2026-01-02T03:04:05Z"


def test_every_product_is_an_asset_with_its_type_and_meaning():
    """COG media types, roles, scale, classes and bits; links relative to the item."""
    assets = build_item(facts())["assets"]
    assert set(assets) == set(FILES)
    assert {name: asset["href"] for name, asset in assets.items()} == {
        name: f"./{file}" for name, file in FILES.items()
    }
    for name in ("class", "probability", "exclusion"):
        assert assets[name]["type"] == pystac.MediaType.COG
    assert assets["polygons"]["type"] == pystac.MediaType.GEOJSON
    assert assets["quicklook"]["type"] == pystac.MediaType.PNG
    assert assets["geopackage"]["type"] == pystac.MediaType.GEOPACKAGE
    assert "overview" in assets["quicklook"]["roles"]
    assert assets["probability"]["raster:bands"][0] == {
        "data_type": "uint16",
        "nodata": 65535,
        "scale": 1e-4,
        "offset": 0,
    }
    assert [one["value"] for one in assets["class"]["classification:classes"]] == list(CLASSES)
    bits = {bit["name"]: bit["offset"] for bit in assets["exclusion"]["classification:bitfields"]}
    assert bits == {"layover": 0, "shadow": 1, "steep": 2, "user": 3}


def test_every_input_is_a_link_and_provenance_is_told():
    """Inputs with their hashes, and what ran."""
    item = build_item(facts())
    links = [link for link in item["links"] if link["rel"] == "derived_from"]
    assert [link["href"] for link in links] == ["in/post.tif", "in/dem.tif"]
    assert links[0]["file:checksum"] == "1220" + "b" * 64
    provenance = item["properties"]["tocsin:provenance"]
    assert (provenance["model"], provenance["precision"], provenance["device"]) == ("flood", "fp32", "cpu")
    assert item["properties"]["tocsin:summary"]["flood_km2"] is None
    assert item["properties"]["processing:software"] == {"tocsin": "0.1.0"}
    assert item["properties"]["tocsin:warnings"][0]["code"] == "time_unknown"


def test_the_footprint_is_cut_at_the_antimeridian():
    """Two parts, and a box whose west is larger than its east."""
    geometry, bbox = footprint(ANTIMERIDIAN)
    assert geometry["type"] == "MultiPolygon"
    assert bbox[0] > 0 > bbox[2]
    geometry, bbox = footprint(UTM)
    assert geometry["type"] == "Polygon"
    assert geometry["coordinates"][0][0] == geometry["coordinates"][0][-1]
    assert bbox[0] < bbox[2]


def test_the_file_is_what_was_built(tmp_path):
    """Plain JSON that pystac reads."""
    write_item(tmp_path / "a_item.json", facts())
    item = pystac.Item.from_file(str(tmp_path / "a_item.json"))
    assert item.assets["class"].get_absolute_href() == str(tmp_path / "a_class.tif")
