"""Statistics in zones: each place once, by exact shares of pixels; unknown is not zero."""

import json
from datetime import timedelta

import numpy as np
import pyogrio
import pytest
import shapely
from affine import Affine
from batch_entries import ACQUIRED, Folder, done, failed, flood, landslide, volcano
from rasterio.crs import CRS

from serving.batch import zone_counting
from serving.batch.zones import read_zones, write_zones
from tocsin.errors import ForbiddenReferenceError, NoGeoreferenceError, NotARasterError, UsageError
from tocsin.grid import Grid, project

UTM = CRS.from_epsg(32630)
PIXEL = 10.0
LEFT, TOP = 5e5, 4.2e6
SIDE = 100
"""Pixels of a scene, each of 100 m2: 1 km2 in all."""
ALL = shapely.box(LEFT, TOP - 1000, LEFT + 1000, TOP)


def write(path, values, *, crs=UTM, left=LEFT, pixel=PIXEL, nodata=255, scale=None):
    """Write one band as a product."""
    import rasterio

    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.asarray(values)
    profile = {"driver": "GTiff", "dtype": values.dtype, "count": 1, "nodata": nodata, "crs": crs}
    profile |= {"height": values.shape[0], "width": values.shape[1]}
    profile["transform"] = Affine(pixel, 0, left, 0, -pixel, TOP)
    with rasterio.open(path, "w", **profile) as raster:
        raster.write(values, 1)
        if scale:
            raster.scales = (scale,)
    return str(path.relative_to(path.parents[2]))


def scene(folder, scene_id, codes, **more):
    """Write a flood scene of class codes and return its entry."""
    path = folder / "flood" / scene_id / f"{scene_id}_class.tif"
    name = write(path, np.asarray(codes, np.uint8), left=more.get("left", LEFT))
    left, width = more.pop("left", LEFT), len(codes[0])
    bounds = (left, TOP - PIXEL * len(codes), left + PIXEL * width, TOP)
    facts = {"bounds": bounds, "shape": (len(codes), width), "products": {"class": name}}
    return done(scene_id, flood(flood_km2=1.0), **(facts | more))


def codes(value=0, **blocks):
    """Return class codes with some columns of another value: `c30=(40, 3)` sets columns 30 to 40 to 3."""
    made = np.full((SIDE, SIDE), value, np.uint8)
    for start, (stop, code) in blocks.items():
        made[:, int(start[1:]) : stop] = code
    return made


def write_vectors(path, shapes, crs="EPSG:32630", layer=None, **fields):
    """Write a vector file; a field is a list of values."""
    pyogrio.raw.write(
        path,
        geometry=shapely.to_wkb(np.array(shapes, dtype=object)),
        field_data=[np.array(values, dtype=object) for values in fields.values()],
        fields=list(fields),
        geometry_type="Unknown",
        crs=crs,
        **({"layer": layer} if layer else {}),
        append=path.exists(),
    )
    return path


def counted(folder, entries, *shapes, crs="EPSG:32630"):
    """Write statistics of some zones and return the properties of each."""
    path = folder / "in.gpkg"
    path.unlink(missing_ok=True)
    write_vectors(path, shapes, crs)
    write_zones(entries, read_zones(path), Folder(folder))
    return [feature["properties"] for feature in json.loads((folder / "zones.geojson").read_text())["features"]]


# The true area of a pixel at the central meridian of UTM is 1 / 0.9996 squared of its nominal one.
KM2 = 1 / 0.9996**2


def test_a_zone_counts_the_exact_share_of_pixels_at_its_edge(tmp_path):
    """Forty columns of flood, of which a zone cuts the outer ones in halves."""
    entry = scene(tmp_path, "a", codes(c20=(60, 3)))
    zone = shapely.box(LEFT + 205, TOP - 1000, LEFT + 505, TOP)
    (found,) = counted(tmp_path, [entry, failed("x")], zone)
    assert found["flood_km2"] == pytest.approx(0.3 * KM2, rel=1e-5)
    assert (found["flood_share"], found["flood_observed_share"]) == (pytest.approx(1), pytest.approx(1, abs=1e-3))
    assert (found["rank"], found["finding"], found["headline"]) == (1, "found", "0.30 km² flood water")


def test_unknown_is_not_zero(tmp_path):
    """Outside of all scenes, under no data and under what radar cannot judge figures are null, not zero."""
    blind = codes(c0=(50, 255), c50=(80, 254))
    dry, outside, unseen = counted(
        tmp_path,
        [scene(tmp_path, "a", blind)],
        ALL,
        shapely.box(LEFT + 5e4, TOP, LEFT + 5.1e4, TOP + 1e3),
        shapely.box(LEFT, TOP - 1000, LEFT + 790, TOP),
    )
    assert (dry["flood_km2"], dry["finding"]) == (0, "nothing")
    assert dry["flood_observed_share"] == pytest.approx(0.2, abs=1e-3)
    for zone in (outside, unseen):
        assert (zone["flood_km2"], zone["flood_share"], zone["volcano_state"]) == (None, None, "unknown")
        assert (zone["flood_observed_share"], zone["finding"], zone["rank"]) == (0, "unknown", None)


def test_water_without_a_reference_is_no_flood_and_no_zero(tmp_path):
    """Flood is unknown where nothing splits water, and zero where there is none."""
    wet, dry = counted(
        tmp_path,
        [scene(tmp_path, "a", codes(c0=(30, 1)))],
        ALL,
        shapely.box(LEFT + 500, TOP - 1000, LEFT + 1000, TOP),
    )
    assert (wet["flood_km2"], wet["unsplit_water_km2"]) == (None, pytest.approx(0.3 * KM2, rel=1e-5))
    assert (dry["flood_km2"], dry["unsplit_water_km2"]) == (0, 0)
    assert wet["headline"] == "0.30 km² water without a reference"


@pytest.mark.parametrize("turned", [False, True])
def test_where_scenes_overlap_the_latest_that_observed_a_place_counts(tmp_path, turned):
    """The flood that a later pass saw gone is gone; where the later pass saw nothing the earlier one counts."""
    older = scene(tmp_path, "older", codes(3))
    later = scene(tmp_path, "later", codes(0, c0=(40, 255), c40=(50, 254)), acquired=ACQUIRED + timedelta(days=6))
    unknown = scene(tmp_path, "unknown", codes(3), acquired=None)
    entries = [later, unknown, older] if turned else [older, later, unknown]
    (found,) = counted(tmp_path, entries, ALL)
    assert found["flood_km2"] == pytest.approx(0.5 * KM2, rel=1e-5)
    assert found["flood_observed_share"] == pytest.approx(1, abs=1e-3)


def test_scenes_side_by_side_overlap_in_part_only(tmp_path):
    """Two scenes shifted by half: three halves of a scene are flooded, none twice."""
    west, east = scene(tmp_path, "west", codes(3)), scene(tmp_path, "east", codes(3), left=LEFT + 500)
    (found,) = counted(tmp_path, [west, east], shapely.box(LEFT - 100, TOP - 1000, LEFT + 2000, TOP))
    assert found["flood_km2"] == pytest.approx(1.5 * KM2, rel=1e-5)


def test_a_zone_in_another_crs_gives_the_same_figures(tmp_path):
    """Straight edges become curves on the grid: degrees and an equal-area projection agree with UTM."""
    entry = scene(tmp_path, "a", codes(c20=(60, 3)))
    zone = shapely.segmentize(shapely.box(LEFT + 205, TOP - 905, LEFT + 505, TOP - 105), 50)
    (same,) = counted(tmp_path, [entry], zone)
    for epsg in (4326, 3035):

        def moved(points, epsg=epsg):
            return np.stack(project(UTM, CRS.from_epsg(epsg), points[:, 0].copy(), points[:, 1].copy()), axis=1)

        (found,) = counted(tmp_path, [entry], shapely.transform(zone, moved), crs=f"EPSG:{epsg}")
        assert found["flood_km2"] == pytest.approx(same["flood_km2"], rel=1e-4)
        assert found["zone_km2"] == pytest.approx(same["zone_km2"], rel=1e-4)


def test_a_hole_is_not_in_its_zone_and_parts_are_added(tmp_path):
    """Holes are left out of area and figures; a zone of two parts has both."""
    hole = shapely.difference(ALL, shapely.box(LEFT + 250, TOP - 750, LEFT + 750, TOP - 250))
    parts = shapely.union_all(
        [shapely.box(LEFT, TOP - 100, LEFT + 100, TOP), shapely.box(LEFT + 500, TOP - 100, LEFT + 600, TOP)]
    )
    ring, two = counted(tmp_path, [scene(tmp_path, "a", codes(3))], hole, parts)
    assert (ring["flood_km2"], ring["zone_km2"]) == (pytest.approx(0.75 * KM2, rel=1e-5),) * 2
    assert two["flood_km2"] == pytest.approx(0.02 * KM2, rel=1e-5)


def test_blocks_do_not_change_a_figure(tmp_path, monkeypatch):
    """A scene counted in blocks of 16 pixels gives what it gives at once."""
    rng = np.random.default_rng(1)
    values = rng.choice(np.array([0, 1, 2, 3, 254, 255], np.uint8), (SIDE, SIDE))
    circle = shapely.Point(LEFT + 480, TOP - 510).buffer(333)
    entry = scene(tmp_path, "a", values)
    (whole,) = counted(tmp_path, [entry], circle)
    monkeypatch.setattr(zone_counting, "BLOCK", 16)
    (blocks,) = counted(tmp_path, [entry], circle)
    assert blocks["flood_km2"] == pytest.approx(whole["flood_km2"], rel=1e-7)
    assert blocks["flood_observed_share"] == pytest.approx(whole["flood_observed_share"], rel=1e-7)


def test_landslides_are_density_times_observed_area(tmp_path):
    """Density of a cell counts on what the mask saw of a judged cell; slid ground is above the threshold."""
    folder = tmp_path / "landslide" / "a"
    mask = np.full((128, 128), 100, np.uint16)
    mask[:, :10], mask[:, 10:20] = 65535, 9000
    products = {
        "mask": write(folder / "a_mask.tif", mask, nodata=65535, scale=1e-4),
        "class": write(folder / "a_class.tif", np.array([[2, 0], [254, 255]], np.uint8), pixel=640.0),
        "density": write(
            folder / "a_density.tif",
            np.array([[20, 1], [7, np.nan]], np.float32),
            pixel=640.0,
            nodata=float("nan"),
        ),
    }
    facts = {"bounds": (LEFT, TOP - 1280, LEFT + 1280, TOP), "shape": (128, 128), "products": products}
    (found,) = counted(tmp_path, [done("a", landslide(), **facts)], shapely.box(LEFT, TOP - 1280, LEFT + 1280, TOP))
    high, none = 0.54 * 0.64 * KM2, 0.64 * 0.64 * KM2
    assert found["landslides_expected"] == pytest.approx(20 * high + none, rel=1e-5)
    assert found["slid_km2"] == pytest.approx(0.1 * 0.64 * KM2, rel=1e-5)
    assert found["landslide_observed_share"] == pytest.approx((high + none) / (1.28**2 * KM2), rel=1e-3)
    assert found["landslide_rank"] == 1


def interferogram(folder, scene_id, deforms, **more):
    """Write a volcano scene of which a column deforms, and return its entry."""
    place = folder / "volcano" / scene_id
    classes = codes(0, **({"c0": (10, 1)} if deforms else {}))
    probability = np.where(classes == 1, 9000, 2000).astype(np.uint16)
    products = {
        "class": write(place / f"{scene_id}_class.tif", classes),
        "probability": write(place / f"{scene_id}_probability.tif", probability, nodata=65535, scale=1e-4),
    }
    facts = {"bounds": (LEFT, TOP - 1000, LEFT + 1000, TOP), "shape": (SIDE, SIDE), "products": products}
    return done(scene_id, more.pop("summary", volcano(0.9)), **facts, **more)


def test_a_volcano_is_deforming_suspected_stable_or_unknown(tmp_path):
    """Ground that deforms in the zone; a scene that says so without saying where; neither; nothing seen."""
    west, east = shapely.box(LEFT, TOP - 1000, LEFT + 500, TOP), shapely.box(LEFT + 500, TOP - 1000, LEFT + 1000, TOP)
    deforming, stable = counted(tmp_path, [interferogram(tmp_path, "a", deforms=True)], west, east)
    assert (deforming["volcano_state"], stable["volcano_state"]) == ("deforming", "stable")
    assert deforming["deforming_km2"] == pytest.approx(0.1 * KM2, rel=1e-5)
    assert deforming["volcano_probability"] == pytest.approx(0.9)
    assert stable["volcano_probability"] == pytest.approx(0.2)
    nowhere = interferogram(tmp_path, "b", deforms=False, summary=volcano(0.9, deforming_km2=0.0))
    assert [zone["volcano_state"] for zone in counted(tmp_path, [nowhere], west, east)] == ["suspected"] * 2


def test_a_scene_that_cannot_be_read_counts_nowhere_and_is_named(tmp_path):
    """Its products vanished: the others count, and the outputs say which one is missing."""
    here, gone = scene(tmp_path, "here", codes(3)), scene(tmp_path, "gone", codes(0))
    (tmp_path / gone.result.products["class"]).unlink()
    (found,) = counted(tmp_path, [here, gone], ALL)
    assert found["flood_km2"] == pytest.approx(KM2, rel=1e-5)
    assert json.loads((tmp_path / "zones.geojson").read_text())["tocsin:scenes_unread"] == ["flood/gone"]
    assert "could not be read: flood/gone" in (tmp_path / "zones.html").read_text()


def test_table_map_and_page_say_the_same(tmp_path):
    """Ranks by the best place of a hazard; names of zones are text, whatever they hold."""
    from pyarrow import parquet

    zones = [shapely.box(LEFT + 100 * at, TOP - 1000, LEFT + 100 * at + 100, TOP) for at in range(3)]
    path = write_vectors(tmp_path / "in.gpkg", zones, NAME_1=["A", "A", "A"], NAME_2=["low", "</script>", "high"])
    entries = [scene(tmp_path, "a", codes(0, c0=(2, 3), c20=(29, 3)))]
    written = write_zones(entries, read_zones(path), Folder(tmp_path))
    assert written == {"zones": "zones.html", "zones_table": "zones.parquet", "zones_map": "zones.geojson"}
    table = parquet.read_table(tmp_path / "zones.parquet").drop_columns(["geometry"]).to_pylist()
    assert [(row["zone"], row["rank"]) for row in table] == [("low", 2), ("</script>", None), ("high", 1)]
    assert table == [one["properties"] for one in json.loads((tmp_path / "zones.geojson").read_text())["features"]]
    assert (tmp_path / "zones.html").read_text().count("</script>") == 3


def test_what_is_no_zone_is_refused_before_any_work(tmp_path):
    """Invalid, empty, points, several layers, no CRS, a wrong CRS, no vector file: each says what to do."""
    bow = shapely.Polygon([(0, 0), (1000, 1000), (1000, 0), (0, 1000)])
    for error, match, arguments in (
        (UsageError, "invalid zones, knot first .*Self-intersection", {"shapes": [ALL, bow], "name": ["fine", "knot"]}),
        (UsageError, "no polygon, zone 1 first", {"shapes": [shapely.Point(LEFT, TOP)]}),
        (UsageError, "without a zone", {"shapes": []}),
        (NoGeoreferenceError, "no place in its CRS", {"shapes": [ALL], "crs": "EPSG:4326"}),
    ):
        path = tmp_path / "zones.gpkg"
        path.unlink(missing_ok=True)
        with pytest.raises(error, match=match):
            read_zones(write_vectors(path, **arguments))
    write_vectors(tmp_path / "two.gpkg", [ALL], layer="a")
    write_vectors(tmp_path / "two.gpkg", [ALL], layer="b")
    with pytest.raises(UsageError, match="with layers a, b"):
        read_zones(tmp_path / "two.gpkg")
    with pytest.warns(UserWarning, match="'crs' was not provided"):
        write_vectors(tmp_path / "nowhere.fgb", [ALL], crs=None)
    with pytest.raises(NoGeoreferenceError, match="without a CRS"):
        read_zones(tmp_path / "nowhere.fgb")
    with pytest.raises(ForbiddenReferenceError):
        read_zones("https://example.org/zones.gpkg")
    (tmp_path / "text.gpkg").write_text("zones")
    with pytest.raises(NotARasterError):
        read_zones(tmp_path / "text.gpkg")


def test_areas_agree_with_the_grid(tmp_path):
    """The area of a zone over a whole grid is the sum of its pixels' true areas."""
    path = write_vectors(tmp_path / "in.gpkg", [ALL])
    grid = Grid(UTM, Affine(PIXEL, 0, LEFT, 0, -PIXEL, TOP), SIDE, SIDE)
    pixels = np.broadcast_to(grid.pixel_area_km2(0, SIDE), grid.shape).sum()
    assert read_zones(path).km2[0] == pytest.approx(pixels, rel=1e-5)
