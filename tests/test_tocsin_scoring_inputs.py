"""What else a scoring may be given: other pixels, a pre-event scene, areas, exclusions, times."""

import json
from datetime import UTC, datetime

import numpy as np
import pytest
import rasterio
from affine import Affine

from tocsin.errors import NotCoveringError, TooLargeError, WrongBandsError, WrongDatesError

UTM = "EPSG:32630"
ENDINGS = {"class.tif", "probability.tif", "polygons.geojson", "quicklook.png", "item.json"}


def read(result, product):
    """Band of a product as it is stored."""
    with rasterio.open(result.products[product]) as raster:
        return raster.read(1)


@pytest.fixture
def scene(tmp_path, backscatter, write_raster):
    """Scene of 3 x 3 windows with water on its left and a hole in its middle."""
    values = backscatter(150, 130)
    values[:, 70:90, 30:70] = np.nan
    return write_raster(tmp_path / "in" / "scene.tif", values, ACQUISITION_START="2024-10-31T18:03:04Z")


def hidden_and_visible(folder):
    """Names in a folder, hidden ones included; none when it does not exist."""
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_pre_event_scene_splits_water(score_flood, tmp_path, backscatter, write_raster):
    """Water that was there before is permanent, the rest is flood; both files are in the provenance."""
    post = write_raster(tmp_path / "post.tif", backscatter(100, 100), ACQUISITION_START="2024-10-31T18:00:00Z")
    before = backscatter(100, 100, (slice(None), slice(0, 20)))
    pre = write_raster(tmp_path / "pre.tif", before, ACQUISITION_START="2024-10-07T18:00:00Z")
    result = score_flood(post, pre=pre)
    expected = np.zeros((100, 100), np.uint8)
    expected[:, :20], expected[:, 20:40] = 2, 3
    np.testing.assert_array_equal(read(result, "class"), expected)
    assert len(result.provenance.inputs) == 2
    assert result.summary.flood_km2 == pytest.approx(0.2, rel=2e-3)


def test_pre_event_scene_on_another_grid(score_flood, tmp_path, backscatter, write_raster):
    """A pre-event scene in another CRS is brought onto the scene's grid."""
    post = write_raster(tmp_path / "post.tif", backscatter(100, 100), transform=Affine(10, 0, 5e5, 0, -10, 4.4e6))
    wide = Affine(10.0, 0.0, 5e5 - 500, 0.0, -10.0, 4.4e6 + 500)
    pre = write_raster(tmp_path / "pre.tif", backscatter(200, 200, (slice(None), slice(0, 70))), transform=wide)
    classes = read(score_flood(post, pre=pre), "class")
    assert (classes[:, :19] == 2).all()
    assert (classes[:, 21:40] == 3).all()
    assert (classes[:, 40:] == 0).all()


def test_wrong_order_of_dates(score_flood, tmp_path, backscatter, write_raster):
    """A pre-event scene that is younger than the post-event scene is refused."""
    post = write_raster(tmp_path / "post.tif", backscatter(40, 40), ACQUISITION_START="2024-10-07T18:00:00Z")
    pre = write_raster(tmp_path / "pre.tif", backscatter(40, 40), ACQUISITION_START="2024-10-31T18:00:00Z")
    with pytest.raises(WrongDatesError, match="2024-10-31"):
        score_flood(post, pre=pre)
    given = datetime(2024, 11, 5, tzinfo=UTC)
    assert score_flood(post, pre=pre, datetime=given).scene.acquired == given


def test_unknown_time_is_a_warning(score_flood, tmp_path, backscatter, write_raster):
    """A time that nobody stated is null with a warning, never invented."""
    result = score_flood(write_raster(tmp_path / "scene.tif", backscatter(40, 40)))
    assert result.scene.acquired is None
    assert [warning.code for warning in result.warnings] == ["acquired_unknown"]


@pytest.mark.parametrize("pixel", [2.5, 20.0, 100.0, 1000.0])
def test_other_pixel_sizes_come_back_on_their_own_grid(score_flood, tmp_path, pixel, backscatter, write_raster):
    """A scene of other pixels is scored at 10 m, returned on its own grid and says so."""
    height, width = (40, 30) if pixel > 100 else (150, 120)
    values = backscatter(height, width, (slice(None), slice(0, width // 2)))
    values[:, : height // 4] = np.nan
    post = write_raster(tmp_path / "scene.tif", values, transform=Affine(pixel, 0, 5e5, 0, -pixel, 4.4e6))
    result = score_flood(post)
    classes = read(result, "class")
    assert classes.shape == (height, width)
    assert result.provenance.resampled.from_m == (pixel, pixel)
    assert result.provenance.resampled.to_m == pytest.approx((10, 10), rel=0.01)
    assert (classes[: height // 4] == 255).all()
    seen = classes[height // 4 + 8 :]
    assert (seen[:, : width // 2 - 8] == 1).all()
    assert (seen[:, width // 2 + 8 :] == 0).all()
    assert hidden_and_visible(tmp_path / "out") == sorted(f"scene_{ending}" for ending in ENDINGS)


def test_pixel_sizes_differ_between_axes(score_flood, tmp_path, backscatter, write_raster):
    """One axis outside 7-15 m is enough to resample; both inside are run as they are, in degrees too."""
    slanted = write_raster(tmp_path / "slanted.tif", backscatter(50, 60), transform=Affine(10, 0, 5e5, 0, -20, 4.4e6))
    assert score_flood(slanted).provenance.resampled.from_m == (10, 20)
    degrees = Affine(1e-4, 0, -1.0, 0, -1e-4, 39.5)
    result = score_flood(
        write_raster(tmp_path / "degrees.tif", backscatter(50, 60), crs="EPSG:4326", transform=degrees)
    )
    assert result.provenance.resampled is None
    assert result.summary.observed_km2 == pytest.approx(3000 * 11.1 * 8.6 / 1e6, rel=0.02)


def test_tiny_scene_at_a_huge_scale(score_flood, tmp_path, backscatter, write_raster):
    """A few pixels of half a metre, smaller than one pixel of the model, are scored all the same."""
    post = write_raster(tmp_path / "tiny.tif", backscatter(3, 4), transform=Affine(0.5, 0, 5e5, 0, -0.5, 4.4e6))
    assert read(score_flood(post), "class").shape == (3, 4)


def test_too_large_at_model_pixels(score_flood, tmp_path, backscatter, write_raster):
    """A scene that would be huge at the model's pixel size is refused before any work."""
    post = write_raster(tmp_path / "coarse.tif", backscatter(60, 60), transform=Affine(9000, 0, 3e5, 0, -9000, 4.4e6))
    with pytest.raises(TooLargeError, match="10 m"):
        score_flood(post)


def area(path, left, bottom, right, top):
    """Write one rectangle, in the scenes' UTM zone, as GeoJSON."""
    from rasterio.warp import transform_geom

    ring = [[left, bottom], [right, bottom], [right, top], [left, top], [left, bottom]]
    geometry = transform_geom(UTM, "EPSG:4326", {"type": "Polygon", "coordinates": [ring]})
    feature = {"type": "Feature", "properties": {}, "geometry": geometry}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    return path


def test_area_of_interest(score_flood, scene, tmp_path):
    """Outside the area all is no data; inside the result is that of the whole scene."""
    aoi = area(tmp_path / "aoi.geojson", 5e5 + 200, 4.4e6 - 300, 5e5 + 600, 4.4e6 - 100)
    whole, part = (
        read(score_flood(scene), "probability"),
        read(score_flood(scene, tmp_path / "part", aoi=aoi), "probability"),
    )
    np.testing.assert_array_equal(part[11:29, 21:59], whole[11:29, 21:59])
    part[9:31, 19:61] = 65535
    assert (part == 65535).all()
    plan_of = score_flood(scene, tmp_path / "dry", aoi=aoi, dry_run=True, overlap=0).summary
    assert (plan_of.windows, plan_of.windows_to_run) == (9, 1)


def test_area_of_interest_elsewhere(score_flood, scene, tmp_path):
    """An area that does not meet the scene is refused."""
    with pytest.raises(NotCoveringError, match=r"aoi\.geojson"):
        score_flood(scene, aoi=area(tmp_path / "aoi.geojson", 6e5, 4.3e6, 6.1e5, 4.31e6))


def test_exclude_is_never_dry(score_flood, scene, tmp_path, write_raster):
    """Excluded polygons or rasters are not observable, and their bits are written."""
    polygons = area(tmp_path / "towns.geojson", 5e5 + 800, 4.4e6 - 500, 5e5 + 1000, 4.4e6 - 200)
    values = np.zeros((1, 150, 130), np.float32)
    values[:, 20:50, 80:100] = 1
    raster = write_raster(tmp_path / "towns.tif", values)
    for number, exclude in enumerate((polygons, raster)):
        result = score_flood(scene, tmp_path / str(number), exclude=exclude)
        assert (read(result, "class")[21:49, 81:99] == 254).all()
        assert (read(result, "exclusion")[21:49, 81:99] == 8).all()
    assert len(result.provenance.inputs) == 2


def test_reference_water(score_flood, scene, tmp_path, write_raster):
    """Water that the reference knows is permanent, other water is flood."""
    values = np.zeros((1, 150, 130), np.float32)
    values[:, :, :10] = 1
    result = score_flood(scene, reference_water=write_raster(tmp_path / "known.tif", values))
    classes = read(result, "class")
    assert (classes[:60, :10] == 2).all()
    assert (classes[:60, 10:40] == 3).all()


def test_second_input_needs_one_band(score_flood, scene, tmp_path, backscatter, write_raster):
    """A reference of two bands is refused: nobody can know which is meant."""
    with pytest.raises(WrongBandsError, match="2 bands"):
        score_flood(scene, reference_water=write_raster(tmp_path / "known.tif", backscatter(150, 130)))


@pytest.mark.parametrize("name", ["pre", "reference_water", "dem", "exclude"])
def test_second_input_elsewhere(score_flood, scene, tmp_path, name, backscatter, write_raster):
    """A second input that does not touch the scene is refused."""
    elsewhere = Affine(10, 0, 7e5, 0, -10, 4.1e6)
    values = backscatter(40, 40)[: 2 if name == "pre" else 1]
    with pytest.raises(NotCoveringError):
        score_flood(scene, **{name: write_raster(tmp_path / "elsewhere.tif", values, transform=elsewhere)})


def test_pair_of_files(score_flood, tmp_path, backscatter, write_raster):
    """Two files of one band are one scene, named after what they share, and both are hashed."""
    values = backscatter(40, 50)
    paths = [write_raster(tmp_path / f"S1A_x_{name}.tif", values[k : k + 1]) for k, name in enumerate(("VV", "VH"))]
    result = score_flood(f"{paths[0]};{paths[1]}")
    assert result.scene.id == "S1A_x"
    assert len(result.provenance.inputs) == 2
