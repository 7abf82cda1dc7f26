"""Simulated interferograms: what the answer says has to be in the phase, and nothing else may give it away."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from simulation_stand_ins import ReplayedRandom

from tocsin.errors import GridMismatchError, UsageError
from tocsin.simulate import SOURCES, InterferogramSettings, NumpyRandom, interferogram
from tocsin.simulate.atmosphere import (
    SHALLOW_EXPONENT,
    STEEP_EXPONENT,
    orbital_ramp,
    stratified_delay,
    turbulent_delay,
)
from tocsin.simulate.decorrelation import central_differences, fringe_coherence, phase_noise, slope_coherence
from tocsin.simulate.deformation import LookGeometry, line_of_sight, los_phase
from tocsin.simulate.interferogram import HEADING_DEG, INCIDENCE_DEG, wrap
from tocsin.simulate.relief import given_terrain, local_coordinates, simulated_terrain
from training.random import TorchRandom

SHAPE = (64, 80)
DEFORMING = InterferogramSettings(deforming_share=1.0)
CONES = InterferogramSettings(deforming_share=0.0, cone_share=1.0)
ARRAYS = ("wrapped_rad", "unwrapped_rad", "deformation_rad", "delay_rad", "mask", "coherence", "dem", "water")
LOOK = LookGeometry("ascending", 348.0, 39.0)


def test_same_seed_same_scene():
    """A seed decides every array and parameter of a scene; another seed gives another scene."""
    first, again, other = (interferogram(NumpyRandom(seed), SHAPE, DEFORMING) for seed in (5, 5, 6))
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert first.source == again.source
    assert first.look == again.look
    assert not np.array_equal(first.delay_rad, other.delay_rad)


@pytest.mark.parametrize("seed", range(4))
def test_numpy_and_torch_agree(seed):
    """On the same draws, numpy and torch simulate the same scene."""
    settings = InterferogramSettings(deforming_share=1.0, masked_share=0.0)
    expected = interferogram(NumpyRandom(seed), SHAPE, settings)
    found = interferogram(ReplayedRandom(seed), SHAPE, settings)
    assert found.source_name == expected.source_name
    for name in ("deformation_rad", "delay_rad", "coherence", "dem"):
        array = getattr(expected, name)
        scale = float(np.abs(array).max())
        np.testing.assert_allclose(getattr(found, name).numpy(), array, atol=1e-5 * scale, rtol=0)
    turn = np.exp(1j * found.wrapped_rad.numpy()) * np.exp(-1j * expected.wrapped_rad)
    np.testing.assert_array_equal(np.isnan(found.wrapped_rad.numpy()), np.isnan(expected.wrapped_rad))
    # Incoherent pixels hold the angle of a number near 0, which magnifies the last digit.
    assert np.nanquantile(np.abs(np.angle(turn)), 0.99) < 1e-3


def test_torch_draws_run_the_same_code():
    """Torch draws give torch tensors of the documented types."""
    scene = interferogram(TorchRandom(5), SHAPE, DEFORMING)
    for name in ARRAYS:
        array = getattr(scene, name)
        assert isinstance(array, torch.Tensor)
        assert array.shape == SHAPE
        assert array.dtype == (torch.bool if name in {"mask", "water"} else torch.float32)


@pytest.mark.parametrize("seed", range(8))
def test_wrapped_and_unwrapped_agree(seed):
    """They differ by whole cycles, miss the same pixels, and the wrapped one lies in (-pi, pi]."""
    scene = interferogram(NumpyRandom(seed), SHAPE, InterferogramSettings(swath_edge_share=1.0))
    wrapped, unwrapped = scene.wrapped_rad.astype(float), scene.unwrapped_rad.astype(float)
    np.testing.assert_array_equal(np.isnan(wrapped), np.isnan(unwrapped))
    cycles = (unwrapped - wrapped) / (2 * np.pi)
    np.testing.assert_allclose(cycles, np.round(cycles), atol=2e-5)
    seen = wrapped[~np.isnan(wrapped)]
    assert seen.min() > -np.pi
    assert seen.max() <= np.pi


def test_wrap_at_the_border():
    """Odd multiples of pi wrap to just below +pi, never to -pi; NaN stays."""
    phase = np.array([np.pi, -np.pi, 3 * np.pi, 0.0, 2 * np.pi, -3.2, np.nan])
    wrapped = wrap(phase, NumpyRandom(0).xp)
    expected = [np.pi, np.pi, np.pi, 0.0, 0.0, 2 * np.pi - 3.2, np.nan]
    np.testing.assert_allclose(wrapped, expected, atol=1e-6)
    assert np.nanmax(wrapped.astype(float)) <= np.pi


@pytest.mark.parametrize("name", SOURCES)
def test_mask_is_where_deformation_exceeds_the_bound(name):
    """The mask holds exactly the pixels whose phase, recomputed from the source, exceeds the larger of both bounds."""
    settings = InterferogramSettings(deforming_share=1.0, sources=(name,), mask_rad=1.0, mask_share=0.15)
    scene = interferogram(NumpyRandom(3), SHAPE, settings)
    assert scene.source_name == name
    centre = ((SHAPE[0] - 1) / 2, (SHAPE[1] - 1) / 2)
    east, north = np.broadcast_arrays(*local_coordinates(scene.dem, *centre, scene.pixel_m))
    phase = los_phase(line_of_sight(scene.source.displacement(east, north), scene.look))
    np.testing.assert_allclose(scene.deformation_rad, phase, atol=1e-4)
    peak = np.abs(scene.deformation_rad).max()
    assert scene.mask_bound_rad == pytest.approx(max(1.0, 0.15 * peak))
    np.testing.assert_array_equal(scene.mask, np.abs(scene.deformation_rad) > scene.mask_bound_rad)
    assert scene.mask.any()
    assert scene.parameters["depth_m"] > 0


def test_scenes_without_source_have_an_empty_mask():
    """No source, no deformation, no mask, no parameters."""
    for seed in range(3):
        scene = interferogram(NumpyRandom(seed), SHAPE, InterferogramSettings(deforming_share=0.0, cone_share=0.0))
        assert (scene.source_name, scene.source, scene.parameters) == ("none", None, {})
        assert not scene.mask.any()
        assert not scene.deformation_rad.any()
        assert not scene.hard_negative


def test_hard_negative_has_fringes_around_the_cone_and_an_empty_mask():
    """Its delay follows relief, in most over half a cycle or more, and its answer is still no."""
    quiet = {"turbulence_rad": (1e-3, 2e-3), "ramp_rad": 0.0, "step_share": 0.0, "steep_ramp_share": 0.0}
    quiet["pixel_m"] = (300.0, 300.0)
    settings = CONES.model_copy(update=quiet)
    scenes = [interferogram(NumpyRandom(seed), SHAPE, settings) for seed in range(12)]
    # Only over hills that are too low for it is there none.
    assert sum(scene.hard_negative for scene in scenes) >= 4
    spans = []
    for scene in scenes:
        if not scene.hard_negative:
            continue
        assert not scene.mask.any()
        spans.append(np.ptp(scene.delay_rad))
        assert abs(np.corrcoef(scene.delay_rad.ravel(), scene.dem.ravel())[0, 1]) > 0.9
    assert np.median(spans) > np.pi


def test_incoherent_share_does_not_tell_the_answer():
    """Ranked by incoherent pixels alone, scenes with and without deformation mix (AUROC near one half)."""
    scenes = [
        interferogram(NumpyRandom(seed), (32, 32), InterferogramSettings(pixel_m=(350, 2000))) for seed in range(160)
    ]
    deforming = np.array([scene.source is not None for scene in scenes])
    lost = np.array([(scene.coherence < 0.35).mean() for scene in scenes])
    pairs = lost[deforming][:, None] - lost[~deforming]
    assert abs((pairs > 0).mean() + 0.5 * (pairs == 0).mean() - 0.5) < 0.15


def test_deformation_stands_out_of_the_delay():
    """The peak of the deformation is at least the settings' contrast times the deviation of all delays."""
    for seed in range(6):
        scene = interferogram(NumpyRandom(seed), SHAPE, DEFORMING)
        peak = np.abs(scene.deformation_rad).max()
        assert peak >= 0.999 * max(DEFORMING.peak_rad[0], DEFORMING.contrast * scene.delay_rad.std())


def test_most_of_the_deforming_area_is_observed():
    """A swath edge or a coherence mask never takes more than half of what deforms."""
    settings = InterferogramSettings(deforming_share=1.0, swath_edge_share=1.0, masked_share=1.0, lost_share=0.5)
    for seed in range(8):
        scene = interferogram(NumpyRandom(seed), SHAPE, settings)
        assert np.isnan(scene.wrapped_rad[scene.mask]).mean() <= 0.5


def test_swath_edge_is_one_straight_cut():
    """What lies beyond is NaN in both phases and known in the answer."""
    settings = InterferogramSettings(deforming_share=0.0, swath_edge_share=1.0, masked_share=0.0)
    shares = []
    for seed in range(6):
        scene = interferogram(NumpyRandom(seed), SHAPE, settings)
        outside = np.isnan(scene.unwrapped_rad)
        # Each row is cut at most once.
        assert (np.diff(outside.astype(int), axis=1) != 0).sum(axis=1).max() <= 1
        assert np.isfinite(scene.coherence).all()
        shares.append(outside.mean())
    assert max(shares) > 0.02


def test_geometry_stays_in_the_ranges_of_sentinel_1():
    """Both passes occur, with heading, incidence and pixel spacing in the stated ranges."""
    scenes = [interferogram(NumpyRandom(seed), (16, 16)) for seed in range(16)]
    for scene in scenes:
        low, high = HEADING_DEG[scene.look.orbit_pass]
        assert low <= scene.look.heading_deg <= high
        assert INCIDENCE_DEG[0] <= scene.look.incidence_deg <= INCIDENCE_DEG[1]
        assert 80 <= scene.pixel_m <= 350
    assert {scene.look.orbit_pass for scene in scenes} == {"ascending", "descending"}


def test_given_relief_is_kept():
    """A DEM that is passed in is the scene's relief; unknown heights and the sea are incoherent water."""
    dem = np.linspace(-50, 900, SHAPE[0] * SHAPE[1], dtype=np.float32).reshape(SHAPE)
    dem[:, 0] = np.nan
    settings = InterferogramSettings(pixel_m=(90.0, 90.0), deforming_share=0.0, cone_share=0.0, island_share=0.0)
    scene = interferogram(NumpyRandom(1), SHAPE, settings, dem=dem)
    assert scene.pixel_m == pytest.approx(90.0)
    land = dem > 0
    np.testing.assert_array_equal(scene.dem[land], dem[land])
    np.testing.assert_array_equal(scene.water, ~land)
    assert scene.coherence[~land].max() < 0.05 < scene.coherence[land].mean()


def test_wrong_shapes_are_refused():
    """A scene too small and a DEM on another grid are errors that say what to do."""
    with pytest.raises(UsageError, match="at least 16"):
        interferogram(NumpyRandom(0), (8, 64))
    with pytest.raises(GridMismatchError, match="resample the DEM"):
        interferogram(NumpyRandom(0), SHAPE, dem=np.ones((64, 64), dtype=np.float32))


@pytest.mark.parametrize("given", [{"pixel_m": (300.0, 80.0)}, {"looks": (0.0, 4.0)}, {"sources": ()}, {"colour": 1}])
def test_wrong_settings_are_refused(given):
    """Backward ranges, zero bounds, no kind of source and unknown names raise."""
    with pytest.raises(ValueError, match=next(iter(given))):
        InterferogramSettings(**given)


def test_turbulence_has_the_slopes_it_states():
    """The radial spectrum falls with 8/3 below 2/3 cycles per km and with 11/3 above."""
    pixel_m, size = 150.0, 256
    power = np.zeros((size, size))
    window = np.hanning(size)[:, None] * np.hanning(size)
    for seed in range(6):
        delay = turbulent_delay(NumpyRandom(seed), (size, size), pixel_m, 1.5)
        assert delay.std() == pytest.approx(1.5, rel=1e-3)
        power += np.abs(np.fft.fft2(delay * window)) ** 2
    axis = np.fft.fftfreq(size, pixel_m / 1000)
    radial = np.hypot(axis[:, None], axis)

    def slope(low, high):
        edges = np.geomspace(low, high, 9)
        bins = [(radial >= a) & (radial < b) for a, b in pairwise(edges)]
        centres = [np.log(radial[chosen]).mean() for chosen in bins]
        return -np.polyfit(centres, [np.log(power[chosen].mean()) for chosen in bins], 1)[0]

    assert slope(0.1, 0.6) == pytest.approx(SHALLOW_EXPONENT, abs=0.25)
    assert slope(0.8, 3.0) == pytest.approx(STEEP_EXPONENT, abs=0.25)


def test_stratified_delay_follows_height():
    """Without a scale height, delay is linear in height with the rate asked for; with one, it saturates."""
    dem = np.linspace(0, 3000, 64, dtype=np.float32).reshape(8, 8)
    linear = stratified_delay(dem, 4.0)
    assert np.ptp(linear) == pytest.approx(12.0, rel=1e-5)
    assert abs(linear.mean()) < 1e-4
    saturating = stratified_delay(dem, 4.0, 2000.0)
    assert np.ptp(saturating) == pytest.approx(8 * (1 - np.exp(-1.5)), rel=1e-4)


def test_orbital_ramp_spans_what_it_was_asked():
    """From one side of the scene to the other, the ramp changes by its span."""
    ramp = orbital_ramp(NumpyRandom(2), SHAPE, 6.0)
    assert np.ptp(ramp) == pytest.approx(6.0, rel=0.05)


@pytest.mark.parametrize("coherence", [0.5, 0.8, 0.95])
def test_phase_noise_has_the_deviation_of_its_coherence(coherence):
    """Noise follows sqrt((1 - c**2) / 2L) / c for many looks."""
    noise = phase_noise(NumpyRandom(1), np.full((128, 128), coherence, dtype=np.float32), 60.0)
    expected = np.sqrt((1 - coherence**2) / 120) / coherence
    assert noise.std() == pytest.approx(expected, rel=0.05)


def test_incoherent_phase_is_uniform():
    """Without coherence every phase is as likely, smoothed or not."""
    for filter_px in (0.0, 0.8):
        noise = phase_noise(NumpyRandom(1), np.zeros((128, 128), dtype=np.float32), 20.0, filter_px)
        assert abs(np.exp(1j * noise).mean()) < 0.05
        assert noise.std() == pytest.approx(np.pi / np.sqrt(3), rel=0.03)


def test_slopes_towards_the_radar_lose_coherence():
    """An ascending pass stands in the west: ground that rises eastwards faces it, and loses more than its back."""
    rise = np.tile(np.arange(32, dtype=np.float32) * 40 + 1, (32, 1))
    facing = slope_coherence(given_terrain(rise, 100.0), LOOK, 0.05)[16, 16]
    away = slope_coherence(given_terrain(rise[:, ::-1].copy(), 100.0), LOOK, 0.05)[16, 16]
    flat = slope_coherence(given_terrain(np.ones((32, 32), dtype=np.float32), 100.0), LOOK, 0.05)[16, 16]
    assert facing < flat < away
    assert flat == pytest.approx(0.95)
    layover = slope_coherence(given_terrain(rise * 4, 100.0), LOOK, 0.05)
    assert not layover.any()


def test_steep_fringes_lose_coherence():
    """Half a cycle per pixel leaves half of the coherence, a whole one nothing."""
    ramp = np.tile(np.arange(16, dtype=np.float32), (16, 1))
    assert fringe_coherence(ramp * np.float32(np.pi)) == pytest.approx(0.5, abs=1e-5)
    assert fringe_coherence(ramp * np.float32(7.0)).max() == 0.0
    down, right = central_differences(ramp)
    assert not down.any()
    np.testing.assert_allclose(right, 1.0)


def test_sea_covers_the_share_asked_for():
    """Heights on water are 0, and everything else is above."""
    terrain = simulated_terrain(NumpyRandom(4), (128, 128), 100.0, 0.4)
    assert terrain.water.mean() == pytest.approx(0.4, abs=0.1)
    assert not terrain.dem[terrain.water].any()
    assert terrain.dem[~terrain.water].min() > 0
