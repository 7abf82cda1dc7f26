"""What a volcano scoring opens: scales, coherence, area of interest, times, and what a reader must know."""

from contextlib import ExitStack
from datetime import UTC, datetime

import numpy as np
import pytest
from affine import Affine
from PIL import Image

from tocsin.errors import GridMismatchError, NoGeoreferenceError, NotCoveringError, UsageError, WrongDatesError
from tocsin.grid import Window
from tocsin.hazards.volcano import VolcanoInputs
from tocsin.phase import wrap
from tocsin.volcano_scene import looks_of, open_volcano_scene

PAIR = "20161031_20170204"
RANGE = (80.0, 350.0)


class FakeManifest:
    """What a scene asks of a model."""

    chip_px = 64
    gsd_m = RANGE


@pytest.fixture
def stack():
    """Return an exit stack that is closed after the test."""
    with ExitStack() as opened:
        yield opened


@pytest.fixture
def interferogram(tmp_path, write_raster):
    """Return a function that writes noisy wrapped phase with pixels of a size."""

    def make(size_m=100, shape=(130, 150), name="ifg.tif", **tags):
        phase = np.random.default_rng(4).uniform(-3, 3, (1, *shape)).astype(np.float32)
        transform = Affine(size_m, 0, 5e5, 0, -size_m, 4.4e6)
        return write_raster(tmp_path / name, phase, transform=transform, **tags)

    return make


def opened(stack, path, *, aoi=None, when=None, **inputs):
    """Open a scene with the model of these tests."""
    return open_volcano_scene(stack, VolcanoInputs(interferogram=path, **inputs), FakeManifest(), aoi=aoi, when=when)


def codes(scene):
    """Codes of the warnings, those about time aside."""
    return [warning.code for warning in scene.warnings if "acquired" not in warning.code]


@pytest.mark.parametrize(
    ("size_m", "looks"), [(300, 1), (80, 1), (79, 1), (78, 2), (60, 2), (40, 2), (30, 3), (20, 5), (10, 10), (1000, 1)]
)
def test_fine_pixels_are_joined_to_about_100_m(size_m, looks):
    """Pixels that are too fine are joined in whole numbers, to at least 80 m and as close to 100 m as that allows."""
    assert looks_of(size_m, RANGE) == looks


@pytest.mark.parametrize(
    ("size_m", "shape", "scales_m", "resampled"),
    [
        (100, (130, 150), [100, 300], False),
        (100, (64, 64), [100], False),
        (100, (20, 65), [100, 300], False),
        (117, (130, 150), [117], False),
        (40, (130, 150), [80, 240], True),
        (30, (150, 192), [90], True),
        (500, (130, 150), [500], False),
    ],
)
def test_scales(stack, interferogram, size_m, shape, scales_m, resampled):
    """The model sees its own pixel size, and a third of it where the scene is larger than a chip and range allows."""
    scene = opened(stack, interferogram(size_m, shape))
    assert [size for size, _ in scene.scales_m] == scales_m
    assert scene.resampled == resampled
    assert [scale.factor for scale in scene.scales] == [1, 3][: len(scales_m)]
    for scale in scene.scales:
        place = scale.to_scene(Window(1, 2, 64, 64))
        assert scale.grid.bounds[0] == scene.grid.bounds[0]
        assert place.height * size_m == pytest.approx(64 * scale.grid.pixel_size_m()[1])
        assert place.row * size_m == pytest.approx(scale.grid.pixel_size_m()[1])
    assert codes(scene) == (["pixel_size_untrained"] if size_m == 500 else [])


def test_axes_are_joined_on_their_own(stack, tmp_path, write_raster):
    """High in the north, where degrees of longitude are short, columns are joined and rows are not."""
    phase = wrap(np.random.default_rng(1).normal(0, 1, (1, 60, 90)).astype(np.float32))
    path = write_raster(tmp_path / "north.tif", phase, crs="EPSG:4326", transform=Affine(0.001, 0, -19, 0, -0.001, 64))
    scene = opened(stack, path)
    assert scene.scales[0].looks == (1, 2)
    assert all(80 <= size <= 350 for size in scene.scales_m[0])


def test_low_coherence_is_hidden_and_marked(stack, interferogram, tmp_path, write_raster):
    """What is not coherent has no phase at any scale, and is marked where there was phase."""
    path = interferogram()
    coherence = np.full((1, 130, 150), 0.9, np.float32)
    coherence[0, :40] = 0.1
    beside = write_raster(tmp_path / "cc.tif", coherence, transform=Affine(100, 0, 5e5, 0, -100, 4.4e6))
    scene = opened(stack, path, coherence=beside)
    assert np.isnan(scene.phase.read(Window(0, 0, 40, 150))).all()
    assert np.isfinite(scene.phase.read(Window(40, 0, 90, 150))).all()
    assert np.isnan(scene.scales[1].source.read(Window(0, 0, 13, 50))).all()
    marked = scene.unobservable.read(Window(0, 0, 130, 150))[0]
    np.testing.assert_array_equal(marked, coherence[0] < 0.2)
    assert [file.href for file in scene.files] == [str(path), str(beside)]
    loose = opened(stack, path, coherence=beside, min_coherence=0.05)
    assert np.isfinite(loose.phase.read(Window(0, 0, 130, 150))).all()
    shifted = write_raster(tmp_path / "shifted.tif", coherence, transform=Affine(100, 0, 5e5 + 50, 0, -100, 4.4e6))
    with pytest.raises(GridMismatchError):
        opened(stack, path, coherence=shifted)


def test_times(stack, interferogram):
    """Times come from tags or names; --datetime is the later one; what is unknown is said and never invented."""
    cases = {
        "ifg.tif": (None, None, ["acquired_unknown"]),
        f"{PAIR}.geo.diff_pha.tif": (
            datetime(2016, 10, 31, tzinfo=UTC),
            datetime(2017, 2, 4, tzinfo=UTC),
            ["acquired_day_only"],
        ),
        "S1AA_20200101T001122_20200113T001123_wrapped_phase.tif": (
            datetime(2020, 1, 1, 0, 11, 22, tzinfo=UTC),
            datetime(2020, 1, 13, 0, 11, 23, tzinfo=UTC),
            [],
        ),
    }
    for name, (reference, secondary, said) in cases.items():
        scene = opened(stack, interferogram(name=name))
        assert (scene.reference_acquired, scene.acquired) == (reference, secondary)
        assert [warning.code for warning in scene.warnings] == said
    when = datetime(2021, 5, 1, 6, tzinfo=UTC)
    scene = opened(stack, interferogram(), when=when)
    assert (scene.acquired, scene.reference_acquired) == (when, None)
    assert [warning.code for warning in scene.warnings] == ["reference_acquired_unknown"]
    with pytest.raises(WrongDatesError, match="later of the two"):
        opened(stack, interferogram(name=f"{PAIR}.geo.diff_pha.tif"), when=datetime(2016, 1, 1, tzinfo=UTC))


def test_zeros_are_spoken_of(stack, tmp_path, write_raster):
    """Zeros that are not declared as nodata are missing in a LiCSAR file and phase elsewhere: both are said."""
    phase = np.random.default_rng(4).uniform(-3, 3, (1, 60, 70)).astype(np.float32)
    phase[0, :20] = 0
    assert codes(opened(stack, write_raster(tmp_path / f"{PAIR}.geo.diff_pha.tif", phase))) == ["undeclared_nodata"]
    assert codes(opened(stack, write_raster(tmp_path / "ifg.tif", phase))) == ["zero_phase"]


def test_area_of_interest(stack, interferogram, tmp_path):
    """The area is known on the scene's grid and on that of every scale; one elsewhere is refused."""
    ring = "[[-3.0, 39.70], [-2.99, 39.70], [-2.99, 39.74], [-3.0, 39.74], [-3.0, 39.70]]"
    area = tmp_path / "area.geojson"
    text = '{"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [RING]}}'
    area.write_text(text.replace("RING", ring))
    scene = opened(stack, interferogram(), aoi=area)
    assert 0 < (scene.aoi.read(scene.grid.window) > 0).mean() < 1
    for scale in scene.scales:
        assert scale.aoi.grid.shape == scale.grid.shape
        assert (scale.aoi.read(scale.grid.window) > 0).any()
    assert scene.files[-1].href == str(area)
    area.write_text(text.replace("RING", ring.replace("39.7", "10.7")))
    with pytest.raises(NotCoveringError):
        opened(stack, interferogram(), aoi=area)


def test_pictures(stack, tmp_path):
    """A picture is looked at as it is and has no place: what needs one is refused."""
    path = tmp_path / f"{PAIR}.geo.diff.png"
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (90, 90), dtype=np.uint8)).save(path)
    scene = opened(stack, path)
    assert (len(scene.scales), scene.georeferenced, scene.scales_m, scene.resampled) == (1, False, None, False)
    assert codes(scene) == ["no_georeference"]
    assert "80 to 350 m" in scene.warnings[-1].message
    for named in ({"coherence": path}, {"aoi": path}):
        with pytest.raises(NoGeoreferenceError, match="a picture, with"):
            opened(stack, path, **named)
    for named in ({"phase": "unwrapped"}, {"units": "m"}):
        with pytest.raises(UsageError, match="a picture, as unwrapped"):
            opened(stack, path, **named)
