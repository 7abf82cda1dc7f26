"""LiCSAR products: GeoTIFFs of a frame, and unwrapped time series with the sign of their phase."""

import math
from datetime import date

import numpy as np
import pytest

from tocsin.errors import GridMismatchError, TruncatedError, UsageError, WrongDatesError, WrongUnitsError
from tocsin.interferograms import Taken
from tocsin.phase import RAD_PER_METRE, wrap
from tocsin.series import read_series
from training.datasets.deepcube import DeepCube
from training.datasets.licsar import LicsarFrame

FRAME = "014A_07688_131313"
ERTA_ALE = f"africa_erta_ale_{FRAME}_erta_ale_20161031_20170204_184_118_0.png"


def ramp(rows=60, cols=70):
    """Return smooth wrapped phase, float32."""
    row, col = np.mgrid[:rows, :cols]
    return wrap((0.11 * row + 0.07 * col).astype(np.float32))


@pytest.fixture
def frame(tmp_path, write_raster):
    """Make a LiCSAR frame with a wrapped and an unwrapped pair and coherence in bytes, 0 where nothing was measured."""
    folder = tmp_path / FRAME / "interferograms"
    phase = ramp(20, 30)[None].copy()
    phase[0, :3] = 0
    first, second = "20161031_20170204", "20170204_20170216"
    write_raster(folder / first / f"{first}.geo.diff_pha.tif", phase)
    write_raster(folder / first / f"{first}.geo.unw.tif", phase + np.float32(2 * math.pi) * (phase != 0))
    write_raster(folder / first / f"{first}.geo.cc.tif", np.full((1, 20, 30), 102, np.float32))
    write_raster(folder / second / f"{second}.geo.unw.tif", np.full((1, 20, 30), 4, np.float32))
    return folder


def test_frames_are_read_by_file_name(frame):
    """Phase is wrapped, stored zeros are missing, coherence is 0..1, frame and days come from names."""
    data = LicsarFrame(frame)
    assert data.pairs() == ("20161031_20170204", "20170204_20170216")
    first, second = data.interferograms()
    assert first.taken == Taken(frame=FRAME, start=date(2016, 10, 31), end=date(2017, 2, 4))
    assert np.isnan(first.phase[:3]).all()
    np.testing.assert_allclose(first.phase[3:], ramp(20, 30)[3:], atol=1e-6)
    np.testing.assert_allclose(wrap(first.unwrapped - first.phase)[3:], 0, atol=1e-5)
    np.testing.assert_allclose(first.coherence, 0.4)
    np.testing.assert_allclose(second.phase, 4 - 2 * math.pi, atol=1e-6)
    assert second.coherence is None


def test_frames_with_wrong_rasters_are_refused(frame, write_raster):
    """Unwrapped values named wrapped, another grid, coherence of another unit and impossible days raise."""
    data = LicsarFrame(frame)
    pair = "20170204_20170216"
    with pytest.raises(UsageError, match="one of 2"):
        data.read("20200101_20200102")
    write_raster(frame / pair / f"{pair}.geo.cc.tif", np.full((1, 9, 9), 0.5, np.float32))
    with pytest.raises(GridMismatchError, match=pair):
        LicsarFrame(frame).read(pair)
    write_raster(frame / pair / f"{pair}.geo.cc.tif", np.full((1, 20, 30), 300, np.float32))
    with pytest.raises(WrongUnitsError, match="coherence"):
        LicsarFrame(frame).read(pair)
    (frame / pair / f"{pair}.geo.cc.tif").unlink()
    write_raster(frame / pair / f"{pair}.geo.diff_pha.tif", np.full((1, 20, 30), 9, np.float32))
    with pytest.raises(WrongUnitsError, match=r"9\.0 rad"):
        LicsarFrame(frame).read(pair)
    write_raster(frame / "20171399_20180101.geo.unw.tif", np.ones((1, 4, 4), np.float32))
    with pytest.raises(WrongDatesError, match="20171399"):
        LicsarFrame(frame).read("20171399_20180101")


def test_folders_without_interferograms_are_refused(tmp_path):
    """Coherence alone is no interferogram."""
    with pytest.raises(UsageError, match="no interferogram"):
        LicsarFrame(tmp_path)


def write_series(path, epochs=4, **changes):
    """Write a small series; a change of None leaves an array out."""
    steps = np.full((epochs, 3, 5), 0.25 / RAD_PER_METRE, np.float32)
    steps[:, 0, 0] = np.nan
    dates = np.array(
        [f"2017-02-{4 + 12 * epoch:02d}" if epoch < 2 else f"2017-03-{epoch:02d}" for epoch in range(epochs)]
    )
    arrays = {"inc": steps, "cml": np.cumsum(steps, axis=0), "dates": dates, "dem": np.zeros((3, 5), np.float32)}
    arrays |= {"lats": np.arange(3.0), "lons": np.arange(5.0)} | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def test_series_are_rewrapped_with_the_sign_of_phase(tmp_path):
    """Motion toward the satellite gives negative phase, by increment and between any two epochs."""
    series = read_series(write_series(tmp_path / "a.npz"))
    assert series.dates[0] == date(2017, 2, 4)
    np.testing.assert_allclose(series.phase(1)[1:], -0.25, rtol=1e-5)
    np.testing.assert_allclose(series.pair_phase(0, 3)[1:], -0.75, rtol=1e-5)
    assert np.isnan(series.phase(1)[0, 0])


def test_series_in_another_form_are_refused(tmp_path):
    """Two epochs, dates out of order, arrays missing or of other shapes, pickles and damaged files raise."""
    with pytest.raises(WrongDatesError, match="2 epochs"):
        read_series(write_series(tmp_path / "a.npz", 2))
    with pytest.raises(WrongDatesError):
        read_series(write_series(tmp_path / "a.npz", dates=np.array(["2017-02-04"] * 4)))
    with pytest.raises(WrongDatesError):
        read_series(write_series(tmp_path / "a.npz", dates=np.array(["yesterday"] * 4)))
    for changes in ({"inc": None}, {"dem": np.zeros((2, 2))}, {"dem": np.array([{}])}):
        with pytest.raises(UsageError):
            read_series(write_series(tmp_path / "a.npz", **changes))
    with pytest.raises(UsageError):
        read_series(tmp_path / "none.npz")
    whole = write_series(tmp_path / "a.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TruncatedError):
        read_series(tmp_path / "cut.npz")


@pytest.mark.data
def test_series_and_picture_of_one_pair_agree_in_sign(data):
    """The grey picture of the dyke of 2017 is the re-wrapped series of its frame, up to shift and constant."""
    series = read_series(data / "licsar_series/licsalert_erta_ale_014A_07688_131313.npz")
    ends = series.dates.index(date(2016, 10, 31)), series.dates.index(date(2017, 2, 4))
    grey = DeepCube(data / "deepcube", "S1").read(f"Train/1/{ERTA_ALE}").picture.phase
    wave = series.pair_phase(*ends)

    def agreement(phase):
        fields = [np.where(np.isfinite(field), np.exp(1j * np.nan_to_num(field)), 0) for field in (grey, phase)]
        size = [sum(sizes) for sizes in zip(grey.shape, phase.shape, strict=True)]
        spectra = [np.fft.fft2(field, size) for field in fields]
        overlap = [np.fft.fft2(np.abs(field), size) for field in fields]
        shared = np.fft.ifft2(overlap[0] * overlap[1].conj()).real
        product = np.abs(np.fft.ifft2(spectra[0] * spectra[1].conj()))
        return float((product / np.maximum(shared, 1))[shared > 0.25 * phase.size].max())

    assert agreement(wave) > 0.95
    assert agreement(-wave) < 0.6
