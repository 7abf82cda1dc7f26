import csv
import json
import math
import os

import pytest

from serving.batch.manifest_file import read_manifest
from serving.batch.scenes import plan_scenes
from tocsin.errors import UsageError


@pytest.fixture
def plan():
    """Return a function that reads a manifest and plans its scenes."""

    def read(manifest, hazard=None):
        with read_manifest(str(manifest), hazard) as (rows, base):
            return plan_scenes(rows, base, hazard)

    return read


@pytest.fixture
def table(tmp_path):
    """Return a function that writes a CSV manifest of a head and rows."""

    def write(*rows, name="m.csv"):
        with (tmp_path / name).open("w", newline="") as file:
            csv.writer(file).writerows(rows)
        return tmp_path / name

    return write


def test_only_hazard_and_main_input_are_required(plan, table, tmp_path):
    """A relative path is relative to the manifest, and the id is the stem of the file."""
    (scene,) = plan(table(("hazard", "post"), ("flood", "in/a.tif")))
    assert (scene.id, scene.hazard, dict(scene.inputs)) == ("a", "flood", {"post": str(tmp_path / "in/a.tif")})


def test_acquisitions_and_bands_are_split(plan, table, tmp_path):
    """A bar is between acquisitions, a semicolon between the bands of one, and each path is resolved."""
    (scene,) = plan(
        table(("hazard", "id", "pre", "post"), ("landslide", "x", "a.tif|b_VV.tif;b_VH.tif", "/abs/c.tif|s3://k/d.tif"))
    )
    at = str(tmp_path)
    assert scene.inputs["pre"] == (f"{at}/a.tif", f"{at}/b_VV.tif;{at}/b_VH.tif")
    assert scene.inputs["post"] == ("/abs/c.tif", "s3://k/d.tif")


def test_two_files_of_one_acquisition_name_the_scene_without_polarisation(plan, table):
    """The id of VV.tif;VH.tif is what the two names share."""
    (scene,) = plan(table(("hazard", "post"), ("flood", "pass_VV.tif;pass_VH.tif")))
    assert scene.id == "pass"


def test_row_options_and_inputs_are_checked_and_kept(plan, table, tmp_path):
    """A row may give its own unit, incidence, threshold, area and time."""
    (scene,) = plan(
        table(
            ("hazard", "post", "units", "incidence_deg", "threshold", "aoi", "datetime"),
            ("flood", "a.tif", "linear", "38.5", "0.4", "area.geojson", "2024-05-31T17:20:00Z"),
        )
    )
    assert scene.inputs["units"] == "linear"
    assert scene.inputs["incidence_deg"] == 38.5
    assert scene.options == {
        "threshold": "0.4",
        "aoi": str(tmp_path / "area.geojson"),
        "datetime": "2024-05-31T17:20:00Z",
    }


def test_order_is_by_priority_then_size(plan, table, tmp_path):
    """Larger priorities come first, and of one priority the larger file."""
    for name, size in (("a", 10), ("b", 30), ("c", 20)):
        (tmp_path / f"{name}.tif").write_bytes(bytes(size))
    rows = [("flood", "a.tif", ""), ("flood", "b.tif", "0"), ("flood", "c.tif", ""), ("flood", "gone.tif", "2.5")]
    assert [scene.id for scene in plan(table(("hazard", "post", "priority"), *rows))] == ["gone", "b", "c", "a"]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("hazard", "id"), ("flood", "a")], "column"),
        ([("hazard", "post", "pirority"), ("flood", "a.tif", "1")], "'pirority'"),
        ([("hazard", "post", "post"), ("flood", "a.tif", "b.tif")], "twice"),
        ([("hazard", "post")], "without a scene"),
        ([], "column"),
        ([("post",), ("a.tif",)], "no hazard"),
        ([("hazard", "post"), ("fire", "a.tif")], "line 2 of m.csv: hazard 'fire'"),
        ([("hazard", "post"), ("flood", "")], "post: Field required"),
        ([("hazard", "post", "pre"), ("landslide", "a.tif", "")], "pre: Field required"),
        ([("hazard", "post"), ("flood", "a.tif|b.tif")], "2 acquisitions"),
        ([("hazard", "post"), ("flood", "a.tif;")], "empty path"),
        ([("hazard", "post", "units"), ("flood", "a.tif", "watt")], "units"),
        ([("hazard", "post", "threshold"), ("flood", "a.tif", "7")], "threshold"),
        ([("hazard", "post", "priority"), ("flood", "a.tif", "soon")], "'soon' is no number"),
        ([("hazard", "post", "priority"), ("flood", "a.tif", "nan")], "'nan' is no number"),
        ([("hazard", "post", "interferogram"), ("flood", "a.tif", "b.tif")], "interferogram is no input of flood"),
        ([("hazard", "post", "id"), ("flood", "a.tif", "../x")], "'../x' is no name"),
        ([("hazard", "post", "id"), ("flood", "a.tif", ".x")], "'.x' is no name"),
        ([("hazard", "post"), ("flood", "1/a.tif"), ("flood", "2/a.tif")], "line 3 of m.csv: id 'a' is that of line 2"),
        ([("hazard", "post"), ("flood", "Á.tif"), ("flood", "a\u0301.tif")], "would overwrite 'Á'"),
        ([("hazard", "post"), ("flood", "a.tif", "more")], "3 cells"),
    ],
)
def test_what_is_wrong_is_refused_before_any_work(plan, table, rows, said):
    """Each mistake in a table is refused with the place and the reason."""
    with pytest.raises(UsageError) as refused:
        plan(table(*rows))
    assert said in str(refused.value)


def test_many_wrong_rows_are_counted(plan, table):
    """Of eight wrong rows five are named and three counted."""
    with pytest.raises(UsageError, match=r"line 6 .*and 3 more"):
        plan(table(("hazard", "post"), *[("fire", f"{k}.tif") for k in range(8)]))


def test_one_scene_may_be_scored_for_two_hazards(plan, table):
    """An id is taken within its hazard only."""
    scenes = plan(table(("hazard", "post", "pre"), ("flood", "a.tif", ""), ("landslide", "a.tif", "b.tif")))
    assert {scene.name for scene in scenes} == {("flood", "a"), ("landslide", "a")}


def test_parquet_gives_the_same_scenes(plan, tmp_path):
    """Lists are acquisitions, numbers priorities, times options, and nulls and NaN empty cells."""
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra batch")
    from pyarrow import parquet

    columns = {
        "hazard": ["landslide", "flood"],
        "pre": [["a.tif", "b.tif"], None],
        "post": [["c.tif"], ["d.tif"]],
        "priority": [math.nan, 3.0],
        "dem": [None, "dem.tif"],
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "m.parquet")
    flood, landslide = plan(tmp_path / "m.parquet")
    assert (flood.id, flood.priority, flood.inputs["dem"]) == ("d", 3.0, str(tmp_path / "dem.tif"))
    assert landslide.inputs["pre"] == (str(tmp_path / "a.tif"), str(tmp_path / "b.tif"))


def test_geojson_gives_scenes_of_its_properties(plan, tmp_path):
    """Each feature's properties are a row."""
    features = [
        {"type": "Feature", "geometry": None, "properties": {"hazard": "volcano", "interferogram": "i.tif", "id": "v"}}
    ]
    (tmp_path / "m.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    (scene,) = plan(tmp_path / "m.geojson")
    assert (scene.id, scene.inputs) == ("v", {"interferogram": str(tmp_path / "i.tif")})


def test_folder_and_glob_find_scenes(plan, tmp_path):
    """Rasters, pairs of polarisations and folders of bands are scenes; anything else is none."""
    for name in (
        "a.tif",
        "b_VV.tif",
        "b_VH.tif",
        "c/x_VV.tif",
        "c/x_VH.tif",
        "notes.txt",
        ".hidden.tif",
        "d/notes.txt",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    scenes = {scene.id: scene.inputs["post"] for scene in plan(tmp_path, "flood")}
    at = str(tmp_path)
    assert scenes == {"a": f"{at}/a.tif", "b": f"{at}/b_VH.tif;{at}/b_VV.tif", "c": f"{at}/c"}
    assert [scene.id for scene in plan(f"{tmp_path}/a*.tif", "flood")] == ["a"]


@pytest.mark.parametrize(("hazard", "said"), [(None, "--hazard"), ("landslide", "before and after")])
def test_folder_says_what_it_cannot_know(plan, tmp_path, hazard, said):
    """A folder does not tell a hazard, nor which of its scenes are before an event."""
    with pytest.raises(UsageError, match=said):
        plan(tmp_path, hazard)


@pytest.mark.parametrize("name", ["m.csv", "m.txt", "m.json", "m.parquet"])
def test_what_is_no_manifest_is_refused(plan, tmp_path, name):
    """A file of another kind, a broken one and a missing one are refused with what is read."""
    with pytest.raises(UsageError):
        plan(tmp_path / name)
    (tmp_path / name).write_bytes(b"\xff\xfe\x00broken")
    with pytest.raises(UsageError):
        plan(tmp_path / name)


def asset(href, **more):
    """Return a STAC asset."""
    return {"href": href} | more


def item(item_id, assets, **properties):
    """Return a STAC item."""
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": item_id,
        "geometry": {"type": "Point", "coordinates": [0, 0]},
        "bbox": [0, 0, 0, 0],
        "properties": {"datetime": "2024-01-01T00:00:00Z"} | properties,
        "links": [],
        "assets": assets,
    }


def test_stac_assets_are_inputs_by_role_key_and_band(plan, tmp_path):
    """Roles come before keys, bands of one polarisation join, and plain VV and VH are the main input."""
    plain = item("plain", {"vv": asset("vv.tif"), "vh": asset("vh.tif"), "thumbnail": asset("t.png")})
    roles = item(
        "roles",
        {
            "one": asset("before.tif", roles=["pre"]),
            "p": asset("p_hv.tif", roles=["post"], bands=[{"name": "VH"}]),
            "q": asset("p_vv.tif", roles=["post"], bands=[{"name": "VV"}]),
            "dem": asset("/abs/dem.tif"),
        },
        **{"tocsin:hazard": "landslide", "tocsin:priority": 4},
    )
    collection = {"type": "FeatureCollection", "features": [plain, roles]}
    (tmp_path / "items.json").write_text(json.dumps(collection))
    first, second = plan(tmp_path / "items.json", "flood")
    at = str(tmp_path)
    assert (first.id, first.hazard, first.priority) == ("roles", "landslide", 4)
    assert first.inputs == {
        "pre": (f"{at}/before.tif",),
        "post": (f"{at}/p_vv.tif;{at}/p_hv.tif",),
        "dem": "/abs/dem.tif",
    }
    assert second.inputs == {"post": f"{at}/vv.tif;{at}/vh.tif"}


def test_stac_catalog_is_walked(plan, tmp_path):
    """A folder with catalog.json is its catalog; hrefs are relative to each item."""
    import pystac

    catalog = pystac.Catalog("c", "c")
    catalog.add_item(pystac.Item.from_dict(item("one", {"post": asset("./post.tif")})))
    catalog.normalize_and_save(str(tmp_path), pystac.CatalogType.SELF_CONTAINED)
    (scene,) = plan(tmp_path, "flood")
    assert scene.id == "one"
    assert os.path.normpath(scene.inputs["post"]) == str(tmp_path / "one/post.tif")


def test_broken_stac_is_refused(plan, tmp_path):
    """An item without what STAC requires is refused."""
    (tmp_path / "items.json").write_text(
        json.dumps({"type": "FeatureCollection", "features": [{"type": "Feature", "stac_version": "1.1.0"}]})
    )
    with pytest.raises(UsageError, match="STAC"):
        plan(tmp_path / "items.json", "flood")
