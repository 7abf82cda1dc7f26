"""Interferograms as sources of wrapped phase: kinds, units, missing values, coherence, coarser looks."""

import math
from datetime import UTC, datetime

import numpy as np
import pytest
import rasterio
from PIL import Image

from tocsin.errors import (
    GridMismatchError,
    NotARasterError,
    UsageError,
    WrongBandsError,
    WrongDatesError,
    WrongUnitsError,
)
from tocsin.grid import Window
from tocsin.phase import RAD_PER_METRE, wrap
from tocsin.raster import (
    Coherent,
    Incoherent,
    Multilooked,
    is_picture,
    open_coherence,
    open_interferogram,
    open_picture,
)
from tocsin.raster.phase_files import acquired_pair, kind_of

PAIR = "20161031_20170204"


def ramp(height=60, width=70, step=0.2):
    """Return unwrapped phase of several fringes, float32 [1, height, width]."""
    row, col = np.mgrid[:height, :width]
    return (step * row + 0.13 * col + 0.3).astype(np.float32)[None]


def whole(source):
    """Read all of a source's only band."""
    return source.read(source.grid.window)[0]


@pytest.mark.parametrize(
    ("name", "descriptions", "kind"),
    [
        (f"{PAIR}.geo.diff_pha.tif", (), "wrapped"),
        (f"{PAIR}.geo.unw.tif", (), "unwrapped"),
        ("S1AA_20200101T001122_20200113T001122_VVP012_INT80_G_weF_1A2B_wrapped_phase.tif", (), "wrapped"),
        ("S1AA_20200101T001122_20200113T001122_VVP012_INT80_G_weF_1A2B_unw_phase.tif", (), "unwrapped"),
        ("cropA_20180106-20180130_VV_8rlks_eqa_unw.tif", (), "unwrapped"),
        ("ifg.tif", ("Unwrapped phase",), "unwrapped"),
        ("ifg.tif", ("wrapped phase",), "wrapped"),
        ("Munwein.tif", ("phase",), None),
    ],
)
def test_names_and_descriptions_tell_the_kind(name, descriptions, kind):
    """The names of LiCSAR, HyP3 and PyRate and plain words tell wrapped from unwrapped phase; nothing else does."""
    assert kind_of(name, descriptions) == kind


def test_unwrapped_phase_and_metres_are_wrapped_on_reading(tmp_path, write_raster):
    """The same motion as unwrapped phase, as metres and as wrapped phase reads alike."""
    phase = ramp()
    files = {
        "unwrapped": (write_raster(tmp_path / "a_unw.tif", phase), {}),
        "stated": (write_raster(tmp_path / "b.tif", phase), {"kind": "unwrapped"}),
        "metres": (write_raster(tmp_path / "c.tif", -phase / np.float32(RAD_PER_METRE)), {"units": "m"}),
        "wrapped": (write_raster(tmp_path / "d.tif", wrap(phase)), {}),
    }
    for name, (path, said) in files.items():
        with open_interferogram(path, **said) as source:
            read = whole(source)
            assert np.abs(wrap(read - phase[0])).max() < 1e-5, name
            assert read.max() < math.pi, name
            assert read.min() > -math.pi, name


@pytest.mark.parametrize(
    ("values", "said", "expected"),
    [
        (ramp(), {}, "--unwrapped"),
        (np.full((1, 60, 70), -9999, np.float32), {}, "nodata"),
        (ramp() / 300, {}, "--units m"),
        (ramp() / 300, {"kind": "wrapped"}, "--units m"),
        (ramp() / 300, {"kind": "unwrapped"}, "--units m"),
        (ramp() * 10, {"units": "m"}, "at most 20"),
        (ramp() * 1000, {"kind": "unwrapped"}, "at most 4500"),
    ],
)
def test_values_that_cannot_be_phase_are_refused(tmp_path, write_raster, values, said, expected):
    """Unwrapped phase as wrapped, a fill value, metres as phase and phase as metres are refused with what to do."""
    with pytest.raises(WrongUnitsError, match=expected):
        open_interferogram(write_raster(tmp_path / "ifg.tif", values), **said)


def test_a_late_value_out_of_reach_is_refused_too(tmp_path, write_raster):
    """What the sample does not hold is refused when it is read."""
    values = wrap(ramp(300, 300))
    values[0, 2, 2] = 40
    with open_interferogram(write_raster(tmp_path / "ifg.tif", values)) as source:
        with pytest.raises(WrongUnitsError, match="as wrapped phase"):
            source.read(Window(0, 0, 30, 30))
        assert np.isfinite(source.read(Window(100, 100, 30, 30))).all()


def test_flat_and_tiny_rasters_say_nothing_about_units(tmp_path, write_raster):
    """One and the same value everywhere, and fewer than 100 values, are no metres."""
    for name, values in (("flat", np.full((1, 30, 30), 0.1)), ("tiny", ramp(9, 9) / 300), ("empty", ramp() * np.nan)):
        with open_interferogram(write_raster(tmp_path / f"{name}.tif", values.astype(np.float32))) as source:
            np.testing.assert_allclose(whole(source), values[0], atol=1e-6)


def test_wrapped_metres_and_displacement_names_are_refused(tmp_path, write_raster):
    """Metres are never wrapped, and HyP3's displacement is no phase."""
    path = write_raster(tmp_path / "S1AA_los_disp.tif", ramp() / 300)
    with pytest.raises(UsageError, match="leave out --wrapped"):
        open_interferogram(path, "wrapped", "m")
    with pytest.raises(WrongUnitsError, match="displacement by its name"):
        open_interferogram(path)
    with open_interferogram(path, units="m") as source:
        assert source.kind == "unwrapped"


def test_zero_is_missing_in_licsar_files_only(tmp_path, write_raster):
    """LiCSAR writes 0 where nothing was measured, declared or not; in other files 0 is a phase."""
    values = wrap(ramp())
    values[0, :20] = 0
    licsar = write_raster(tmp_path / f"{PAIR}.geo.diff_pha.tif", values)
    other = write_raster(tmp_path / "ifg.tif", values)
    with open_interferogram(licsar) as first, open_interferogram(other) as second:
        assert np.isnan(whole(first)[:20]).all()
        assert np.isfinite(whole(first)[20:]).all()
        np.testing.assert_array_equal(whole(second), values[0])
        assert first.zeros == second.zeros == pytest.approx(1 / 3, abs=0.05)


def test_bands_must_be_one(tmp_path, write_raster):
    """Two bands are refused, and so is complex phase, with what to do."""
    two = write_raster(tmp_path / "two.tif", np.concatenate([ramp(), ramp()]))
    with pytest.raises(WrongBandsError, match="one band of phase"):
        open_interferogram(two)
    profile = {"driver": "GTiff", "dtype": "complex64", "count": 1, "height": 9, "width": 9, "crs": "EPSG:32630"}
    transform = rasterio.transform.from_origin(5e5, 5e6, 100, 100)
    with rasterio.open(tmp_path / "complex.tif", "w", transform=transform, **profile) as file:
        file.write(np.ones((1, 9, 9), np.complex64))
    with pytest.raises(WrongUnitsError, match="its angle"):
        open_interferogram(tmp_path / "complex.tif")


@pytest.mark.parametrize(
    ("name", "tags", "reference", "secondary", "day_only"),
    [
        (f"{PAIR}.geo.unw.tif", {}, datetime(2016, 10, 31, tzinfo=UTC), datetime(2017, 2, 4, tzinfo=UTC), True),
        (
            "S1AA_20200101T001122_20200113T001123_VVP012_INT80_G_weF_1A2B_unw_phase.tif",
            {},
            datetime(2020, 1, 1, 0, 11, 22, tzinfo=UTC),
            datetime(2020, 1, 13, 0, 11, 23, tzinfo=UTC),
            False,
        ),
        (
            "x.tif",
            {
                "FIRST_DATE": "2018-01-06",
                "FIRST_TIME": "00:40:21",
                "SECOND_DATE": "2018-01-30",
                "SECOND_TIME": "00:40:22",
            },
            datetime(2018, 1, 6, 0, 40, 21, tzinfo=UTC),
            datetime(2018, 1, 30, 0, 40, 22, tzinfo=UTC),
            False,
        ),
        (f"{PAIR}/diff.tif", {}, datetime(2016, 10, 31, tzinfo=UTC), datetime(2017, 2, 4, tzinfo=UTC), True),
        ("x.tif", {"ACQUISITION_START": "2020-05-01T00:00:00Z"}, None, datetime(2020, 5, 1, tzinfo=UTC), False),
        ("S1A_20200101T001122_20200101T001147_ifg.tif", {}, None, None, False),
        ("x_12345678_99999999.tif", {"TIFFTAG_DATETIME": "2020:05:01 00:00:00"}, None, None, False),
    ],
)
def test_acquisitions_come_from_names_and_tags(name, tags, reference, secondary, day_only):
    """Both times are found in the names of LiCSAR and HyP3 and in tags; digits that are no days are none."""
    pair = acquired_pair(name, tags)
    assert (pair.reference, pair.secondary, pair.day_only) == (reference, secondary, day_only)


def test_a_reversed_pair_is_refused():
    """A pair with the later day first has the opposite sign."""
    with pytest.raises(WrongDatesError, match="opposite sign"):
        acquired_pair("20170204_20161031.geo.unw.tif", {})


@pytest.mark.parametrize("factor", [1, 255])
def test_coherence_is_brought_to_one(tmp_path, write_raster, factor):
    """Coherence of 0..1 and of 0..255 hide the same pixels; what has no coherence is hidden too."""
    coherence = np.full((1, 60, 70), 0.6, np.float32)
    coherence[0, :10] = 0.1
    coherence[0, 10:20] = np.nan
    phase = write_raster(tmp_path / "ifg.tif", wrap(ramp()))
    with open_interferogram(phase) as source:
        beside = open_coherence(write_raster(tmp_path / "cc.tif", coherence * np.float32(factor)), source)
        np.testing.assert_allclose(whole(beside), coherence[0], rtol=1e-6)
        seen = np.isfinite(whole(Coherent(source, beside, 0.2)))
        np.testing.assert_array_equal(seen, coherence[0] >= 0.2)
        np.testing.assert_array_equal(whole(Incoherent(source, beside, 0.2)), ~seen)
        beside.close()


def test_coherence_elsewhere_or_of_another_unit_is_refused(tmp_path, write_raster):
    """Another grid, two bands, and values that are no coherence are refused."""
    with open_interferogram(write_raster(tmp_path / "ifg.tif", wrap(ramp()))) as source:
        with pytest.raises(GridMismatchError, match="interferogram and coherence"):
            open_coherence(write_raster(tmp_path / "a.tif", np.ones((1, 60, 71), np.float32)), source)
        with pytest.raises(WrongBandsError, match="one band of coherence"):
            open_coherence(write_raster(tmp_path / "b.tif", np.ones((2, 60, 70), np.float32)), source)
        for value in (-1, 300):
            with pytest.raises(WrongUnitsError, match=r"0\.\.255"):
                open_coherence(write_raster(tmp_path / "c.tif", np.full((1, 60, 70), value, np.float32)), source)


def test_phase_is_never_averaged_across_the_wrap(tmp_path, write_raster):
    """A plane that alternates between 3.1 and -3.1 rad stays near pi at a third of the resolution."""
    checked = np.indices((1, 90, 120)).sum(axis=0) % 2
    path = write_raster(tmp_path / "ifg.tif", np.where(checked, 3.1, -3.1).astype(np.float32))
    with open_interferogram(path) as source:
        third = whole(Multilooked(source, (3, 3)))
    assert third.shape == (30, 40)
    assert np.abs(third).min() > 3.1


def test_coarser_looks_know_what_is_missing_and_where_they_end(tmp_path, write_raster):
    """A coarser pixel needs half of its pixels; pieces read alone equal the whole; nothing is mirrored at the edges."""
    phase = wrap(ramp(61, 70))
    phase[0, :, :5] = np.nan
    with open_interferogram(write_raster(tmp_path / "ifg.tif", phase)) as source:
        looks = Multilooked(source, (3, 2))
        together = whole(looks)
        assert looks.grid.shape == (21, 35)
        assert np.isnan(together[:, :2]).all()  # columns 0 to 3
        assert np.isfinite(together[:20, 2:]).all()  # column 4 missing, column 5 there: half
        assert np.isnan(together[20]).all()  # a third of its rows lies inside
        piece = looks.read(Window(-2, 30, 25, 10))[0]
        np.testing.assert_array_equal(piece[2:23, :5], together[:, 30:])
        assert np.isnan(piece[:2]).all()
        assert np.isnan(piece[:, 5:]).all()
        assert looks.grid.pixel_size_m() == (20, 30)
        assert looks.grid.bounds[0] == source.grid.bounds[0]
        assert looks.grid.bounds[3] == source.grid.bounds[3]


def test_pictures_have_phase_and_no_place(tmp_path, write_raster):
    """A grey picture reads as phase without a CRS; another picture is refused; a GeoTIFF is no picture."""
    phase = wrap(ramp(80, 90))[0]
    path = tmp_path / f"{PAIR}.geo.diff.png"
    Image.fromarray(np.rint((phase + math.pi) * 255 / (2 * math.pi)).astype(np.uint8)).save(path)
    source = open_picture(path)
    assert (source.grid.shape, bool(source.grid.crs), source.scene_id) == ((80, 90), False, path.stem)
    assert source.acquired.secondary == datetime(2017, 2, 4, tzinfo=UTC)
    read = source.read(Window(-1, -1, 82, 92))[0]
    assert np.isnan(read[0]).all()
    assert np.abs(wrap(read[1:81, 1:91] - phase)).max() < 0.013
    blue = tmp_path / "blue.png"
    Image.new("RGB", (50, 50), (10, 30, 250)).save(blue)
    with pytest.raises(WrongUnitsError):
        open_picture(blue)
    assert is_picture(path)
    assert not is_picture(write_raster(tmp_path / "ifg.tif", wrap(ramp())))
    (tmp_path / "broken.png").write_bytes(path.read_bytes()[:8] + b"nothing")
    with pytest.raises(NotARasterError):
        open_picture(tmp_path / "broken.png")


@pytest.mark.data
def test_pyrate_interferograms(data):
    """Real unwrapped interferograms are known by their names, dated by their tags, and refused as wrapped or metres."""
    files = sorted((data / "pyrate_cropA").glob("*_unw.tif"))
    assert files
    for path in files:
        with open_interferogram(path) as source:
            assert source.kind == "unwrapped"
            assert source.acquired.reference < source.acquired.secondary
            assert not source.acquired.day_only
            phase = whole(source)
            assert 0.9 < np.isfinite(phase).mean() < 1
            assert np.nanmax(np.abs(phase)) <= math.pi
        with pytest.raises(WrongUnitsError, match="--unwrapped"):
            open_interferogram(path, "wrapped")


@pytest.mark.data
def test_real_metres_are_never_taken_for_phase(data, tmp_path, write_raster):
    """Every increment and every sum of two real series, in metres, is refused as phase."""
    for path in sorted((data / "licsar_series").glob("*.npz")):
        with np.load(path) as series:
            for name in ("inc", "cml"):
                for epoch in (*range(0, len(series[name]), 40), *np.argsort(np.nanstd(series[name], axis=(1, 2)))[-2:]):
                    raster = write_raster(tmp_path / "metres.tif", series[name][epoch][None].astype(np.float32))
                    with pytest.raises(WrongUnitsError, match="--units m"):
                        open_interferogram(raster)
                    with open_interferogram(raster, units="m") as source:
                        assert np.nanmax(np.abs(whole(source))) <= math.pi
