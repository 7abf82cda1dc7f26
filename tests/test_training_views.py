"""Views of unlabelled chips: geometry, physical changes, and what is missing."""

import math

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra train")

from training.datasets.unlabelled import UnlabelledChip
from training.view_changes import UNCHANGED, BackscatterChanges, Changes, PhaseChanges, changed
from training.views import Placement, ViewMaker, ViewPlan, ViewSettings

SIZE = 64
PLAIN = {"changes": UNCHANGED, "hole_share": 0.0}


def chip_of(**layers):
    """Return a chip of such layers."""
    return UnlabelledChip("chip", "place", {name: np.asarray(values, np.float32) for name, values in layers.items()})


@pytest.fixture
def numbered():
    """Return a chip whose bands hold the row and the column of each pixel's centre."""
    rows, cols = np.meshgrid(np.arange(80) + 0.5, np.arange(90) + 0.5, indexing="ij")
    return chip_of(B02=rows, B03=cols)


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_places_of_a_chip_are_found_in_every_view(numbered, turns, mirrored):
    """What a view holds at the pixel that `locate` names is the place that was asked for."""
    place = Placement(7, 11, SIZE, SIZE, turns, mirrored)
    view = place.cut(numbered.pick(("B02", "B03")), ("reflectance", "reflectance"))
    asked = np.array([[10.5, 20.5], [70.5, 12.5], [40.5, 74.5]])
    found = np.floor(place.locate(asked) * SIZE).astype(int)
    np.testing.assert_allclose(view[:, found[:, 0], found[:, 1]].T, asked)


def test_common_points_show_the_same_place_in_both_views(numbered):
    """Values at the points that two views share are equal to a pixel, however both were turned."""
    maker = ViewMaker([("B02", "B03")], ViewPlan(points=20), ViewSettings(chip_px=SIZE, **PLAIN))
    views = maker.batch([numbered] * 3, np.random.default_rng(0))
    at = np.clip((views.points.numpy() * SIZE).astype(int), 0, SIZE - 1)
    for number in range(3):
        first, second = (
            views.whole[view][number].numpy()[:, at[view, number, :, 0], at[view, number, :, 1]] for view in range(2)
        )
        assert np.abs(first - second).max() <= 1


def test_nothing_is_invented_outside_a_chip(numbered):
    """A view larger than the chip is NaN around it, and holds all of it."""
    settings = ViewSettings(chip_px=128, turns=False, mirrors=False, **PLAIN)
    views = ViewMaker([("B02",)], ViewPlan(whole=1), settings).batch([numbered], np.random.default_rng(1))
    view = views.whole[0].numpy()[0, 0]
    assert np.isfinite(view).sum() == 80 * 90
    assert np.nanmax(view) == 79.5


def test_the_same_draw_gives_the_same_views(numbered):
    """Views depend on nothing but chips and generator."""
    maker = ViewMaker([("B02", "B03")], ViewPlan(local=2), ViewSettings(chip_px=SIZE, local_px=32))
    first, second = (maker.batch([numbered], np.random.default_rng(5)) for _ in range(2))
    for one, other in zip((*first.whole, *first.local), (*second.whole, *second.local), strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    assert [each.shape[-1] for each in first.local] == [32, 32]


def test_phase_stays_wrapped_and_rings_stay_rings():
    """Another reference and sign leave phase in (-pi, pi] and every difference between pixels, or its sign."""
    rows, cols = np.meshgrid(np.arange(SIZE), np.arange(SIZE), indexing="ij")
    phase = np.angle(np.exp(1j * 0.02 * ((rows - 32) ** 2 + (cols - 32) ** 2))).astype(np.float32)
    phase[:5] = np.nan
    settings = Changes(phase=PhaseChanges(ramp_fringes=0, atmosphere_rad=0, noise_rad=0))
    seen = set()
    for seed in range(8):
        view = changed(phase[None], ("phase",), settings, np.random.default_rng(seed))[0]
        assert np.nanmin(view) > -math.pi - 1e-6
        assert np.nanmax(view) <= math.pi + 1e-6
        assert np.array_equal(np.isnan(view), np.isnan(phase))
        ratio = [np.exp(1j * (view - sign * phase))[10:] for sign in (1, -1)]
        apart = [np.abs(each - each.flat[0]).max() for each in ratio]
        assert min(apart) < 1e-4
        seen.add(int(np.argmin(apart)))
    assert seen == {0, 1}


def test_phase_is_averaged_as_unit_vectors():
    """Pixels twice as large across the wrap keep phase near pi instead of passing through zero."""
    phase = np.where(np.arange(SIZE) % 2, 3.1, -3.1) * np.ones((SIZE, 1))
    view = Placement(0, 0, SIZE, 32, 0, mirrored=False).cut(phase[None].astype(np.float32), ("phase",))
    assert np.abs(view[0, 4:-4, 4:-4]).min() > 3


def test_backscatter_is_averaged_in_linear_power():
    """The mean of 0 dB and -20 dB is -2.97 dB, that of power, not -10 dB."""
    values = np.where(np.arange(SIZE) % 2, 0.0, -20.0) * np.ones((SIZE, 1))
    view = Placement(0, 0, SIZE, 32, 0, mirrored=False).cut(values[None].astype(np.float32), ("backscatter",))
    assert view[0, 4:-4, 4:-4] == pytest.approx(10 * math.log10(0.505), abs=0.4)
    settings = Changes(
        backscatter=BackscatterChanges(offset_db=0, band_offset_db=0, ramp_db=0, looks=None, smoothed_share=1)
    )
    smooth = changed(values[None].astype(np.float32), ("backscatter",), settings, np.random.default_rng(0))
    thirds = sorted({round(float(each), 2) for each in smooth[0, 5, 5:-5]})
    assert thirds == pytest.approx([10 * math.log10((1 + 0.02) / 3), 10 * math.log10((2 + 0.01) / 3)], abs=0.01)


def test_speckle_keeps_the_mean_power():
    """Multiplied speckle of given looks has mean one in linear power and the variance of its looks."""
    settings = Changes(
        backscatter=BackscatterChanges(
            offset_db=0, band_offset_db=0, ramp_db=0, looks=(16.0, 16.0001), smoothed_share=0
        )
    )
    flat = np.full((1, 256, 256), -12, np.float32)
    power = 10 ** ((changed(flat, ("backscatter",), settings, np.random.default_rng(3)) + 12) / 10)
    assert power.mean() == pytest.approx(1, abs=0.01)
    assert power.var() == pytest.approx(1 / 16, rel=0.05)


def test_only_kinds_with_a_cause_change():
    """Coherence, ratio and height stay as measured when everything else changes."""
    values = np.random.default_rng(0).random((4, 32, 32)).astype(np.float32)
    out = changed(values, ("coherence", "backscatter", "height", "ratio"), Changes(), np.random.default_rng(1))
    np.testing.assert_array_equal(out[[0, 2, 3]], values[[0, 2, 3]])
    assert not np.allclose(out[1], values[1])


def test_modalities_and_bands_go_missing_as_asked():
    """One modality of two is missing, or one valid band alone is left of each; a band that is missing is never left."""
    flat = np.ones((SIZE, SIZE))
    chip = chip_of(VV=flat, VH=flat, B02=flat, B03=flat * np.nan)
    modalities = [("VV", "VH"), ("B02", "B03")]

    def seen(**settings):
        maker = ViewMaker(modalities, ViewPlan(whole=1), ViewSettings(chip_px=SIZE, **PLAIN, **settings))
        views = maker.batch([chip] * 24, np.random.default_rng(2)).whole[0].numpy()
        return np.isfinite(views).any(axis=(2, 3))

    assert seen(lost_modality_share=1).any(axis=1).all()
    lost = seen(lost_modality_share=1)
    assert ((lost[:, :2].all(axis=1)) ^ (lost[:, 2])).all()
    single = seen(single_band_share=1)
    assert (single[:, :2].sum(axis=1) == 1).all()
    assert single[:, 2].all()
    assert single[:, 0].any()
    assert single[:, 1].any()


def test_heights_belong_to_the_view_in_which_nothing_changed():
    """Plain view and height are cut at one place, whatever happens to the other views."""
    ground = np.random.default_rng(0).random((96, 96)) * 100
    chip = chip_of(VV=ground, height=ground)
    maker = ViewMaker([("VV",)], ViewPlan(heights=True), ViewSettings(chip_px=SIZE, hole_share=1))
    views = maker.batch([chip, chip], np.random.default_rng(0))
    np.testing.assert_array_equal(views.plain.numpy(), views.height.numpy())
    assert np.isfinite(views.height.numpy()).all()
