"""Simulated landslides: scars follow the law, the slope and the radar, and nothing else may give them away."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import integrate, special, stats
from simulation_stand_ins import ReplayedRandom, ridge

from tocsin.errors import GridMismatchError, UsageError
from tocsin.simulate import LandslideSettings, NumpyRandom, ScarSettings, landslide_pair
from tocsin.simulate.acquisitions import gamma_speckle, observed
from tocsin.simulate.landslide_areas import RHO, SCALE_M2, SHIFT_M2, SMALLEST_M2, area_probability, landslide_areas
from tocsin.simulate.scars import draw_scars, slopes_of, susceptibility
from tocsin.simulate.slide_ground import COVERS, LOOKALIKES
from training.random import TorchRandom

SHAPE = (128, 128)
CHIP_KM2 = 1.6384
SLIDING = LandslideSettings(landslide_share=1.0, mean_slope_deg=(20, 30))
# Nothing but scars and speckle differs between the acquisitions of such a scene.
STILL = SLIDING.model_copy(
    update={"wet_db": 0.0, "drift_db": 0.0, "lookalike_share": 0.0, "masked_share": 0.0, "swath_edge_share": 0.0}
)
BUSY = SLIDING.model_copy(update={"density_per_km2": (40.0, 80.0), "size_factor": (2.0, 2.0)})
ARRAYS = ("pre_db", "post_db", "dem", "mask", "heads", "cover", "lookalike")


def linear(value_db):
    """Return linear power."""
    return 10 ** (value_db / 10)


@pytest.fixture(scope="module")
def scenes():
    """Scenes with landslides under default settings, seeds 0 to 11."""
    return [landslide_pair(NumpyRandom(seed), SHAPE, SLIDING) for seed in range(12)]


def test_same_seed_same_scene():
    """A seed decides every array of a scene; another seed gives another scene."""
    first, again, other = (landslide_pair(NumpyRandom(seed), (48, 64), SLIDING) for seed in (3, 3, 4))
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert first.density_per_km2 == again.density_per_km2
    assert not np.array_equal(first.dem, other.dem)


@pytest.mark.parametrize("seed", range(4))
def test_numpy_and_torch_agree(seed):
    """On the same draws, numpy and torch simulate the same scene but for rounding at thresholds."""
    expected = landslide_pair(NumpyRandom(seed), (64, 80), BUSY)
    found = landslide_pair(ReplayedRandom(seed), (64, 80), BUSY)
    assert found.density_per_km2 == pytest.approx(expected.density_per_km2)
    np.testing.assert_allclose(found.dem.numpy(), expected.dem, atol=1e-5 * expected.dem.max(), rtol=0)
    near = np.abs(found.heads.numpy() - expected.heads).max(axis=1) < 0.01
    assert near.mean() > 0.95
    assert (found.mask.numpy() == expected.mask).mean() > 0.99
    assert (found.cover.numpy() == expected.cover).mean() > 0.995
    missing = np.isnan(expected.post_db)
    assert (np.isnan(found.post_db.numpy()) == missing).mean() > 0.99
    both = ~missing & ~np.isnan(found.post_db.numpy())
    assert (np.abs(found.post_db.numpy() - expected.post_db)[both] < 0.01).mean() > 0.97


def test_torch_draws_run_the_same_code():
    """Torch draws give torch tensors of the documented shapes and types, under default settings."""
    scene = landslide_pair(TorchRandom(1), SHAPE, SLIDING)
    for name in ARRAYS:
        assert isinstance(getattr(scene, name), torch.Tensor)
    assert scene.pre_db.dtype == scene.post_db.dtype == scene.dem.dtype == scene.heads.dtype == torch.float32
    assert scene.mask.dtype == torch.bool
    for stack in (scene.pre_db, scene.post_db):
        assert 1 <= stack.shape[0] <= 3
        assert tuple(stack.shape[1:]) == (2, *SHAPE)


def test_probability_of_areas_is_the_inverse_gamma_law():
    """The density integrates to one, peaks at a / (rho + 1) + s, and falls off with the exponent -(rho + 1)."""
    total, _ = integrate.quad(lambda area: float(area_probability(np.float64(area))), SHIFT_M2 + 1, np.inf, limit=200)
    assert total == pytest.approx(1, abs=1e-3)
    areas = np.arange(100.0, 2000.0)
    assert areas[np.argmax(area_probability(areas))] == pytest.approx(SCALE_M2 / (RHO + 1) + SHIFT_M2, abs=1)
    low, high = area_probability(np.array([1e7, 1e8]))
    assert math.log10(high / low) == pytest.approx(-(RHO + 1), abs=0.01)


def test_areas_follow_the_law():
    """Kolmogorov's distance of drawn areas from scipy's truncated inverse gamma is below its 1 % bound."""
    largest = 3e5
    areas = np.sort(landslide_areas(NumpyRandom(0).uniform((4000,)), largest))
    law = stats.invgamma(RHO, loc=SHIFT_M2, scale=SCALE_M2)
    low, high = law.cdf(SMALLEST_M2), law.cdf(largest)
    expected = (law.cdf(areas) - low) / (high - low)
    distance = np.abs(expected - (np.arange(areas.size) + 0.5) / areas.size).max()
    assert distance < 1.63 / math.sqrt(areas.size)
    assert areas.min() >= SMALLEST_M2 * 0.999
    assert areas.max() <= largest * 1.001


def test_areas_of_scenes_follow_the_law():
    """What a scene reports as areas is the law itself, when neither factor nor large landslide is asked for."""
    settings = SLIDING.model_copy(
        update={
            "size_factor": (1.0, 1.0),
            "large_share": 0.0,
            "density_per_km2": (8.0, 8.0),
            "mean_slope_deg": (28, 30),
        }
    )
    slopes = slopes_of(ridge(128, 128), 10.0)
    drawn = []
    for seed in range(80):
        random = NumpyRandom(seed)
        drawn.append(draw_scars(random, slopes, susceptibility(random, slopes, settings), settings).area_m2)
    areas = np.concatenate(drawn)
    law = stats.invgamma(RHO, loc=SHIFT_M2, scale=SCALE_M2)
    assert areas.size > 900
    assert stats.kstest(areas, law.cdf).statistic < 1.63 / math.sqrt(areas.size) + 0.01


def test_heads_lie_on_slopes_that_can_slide(scenes):
    """No landslide starts below the least slope, on water or in a town."""
    for scene in scenes:
        slope = slopes_of(scene.dem, 10.0).slope_deg
        rows, cols = np.round(scene.heads).astype(int).T
        assert (slope[rows, cols] >= SLIDING.least_slope_deg).all()
        assert (scene.cover[rows, cols] < COVERS.index("urban")).all()


def test_flat_ground_never_slides():
    """On a plain there is nothing to slide, whatever was asked for: no head, no mask, density 0."""
    scene = landslide_pair(NumpyRandom(0), (64, 64), BUSY, dem=np.zeros((64, 64), np.float32))
    assert scene.heads.shape == (0, 2)
    assert not scene.mask.any()
    assert scene.density_per_km2 == 0


def test_mask_heads_and_density_agree(scenes):
    """Density counts the heads, and every slid pixel belongs to a scar that reaches it."""
    for scene in scenes:
        assert scene.density_per_km2 == pytest.approx(len(scene.heads) / CHIP_KM2, rel=1e-6)
        assert len(scene.heads) == len(scene.scars.area_m2) >= 1
        assert ((scene.heads > -0.5) & (scene.heads < 127.5)).all()
        np.testing.assert_array_equal(scene.mask, scene.scars.coverage >= 0.5)
        rows, cols = np.nonzero(scene.scars.coverage > 0)
        owner = scene.scars.owner[rows, cols]
        assert (owner >= 0).all()
        # A stubby scar winds by up to its width.
        reach_px = 1.3 * scene.scars.length_m[owner] / 10 + 1.5
        assert (np.hypot(rows - scene.heads[owner, 0], cols - scene.heads[owner, 1]) <= reach_px).all()
        assert (scene.scars.owner[scene.scars.coverage == 0] == -1).all()


def test_density_reaches_all_three_classes():
    """Under default settings there are scenes without landslides, with few, and with more than 25 per km2."""
    density = np.array([landslide_pair(NumpyRandom(seed), (128, 128)).density_per_km2 for seed in range(40)])
    assert 0.35 < (density == 0).mean() < 0.75
    assert ((density > 0) & (density <= 25)).sum() >= 5
    assert (density > 25).sum() >= 3


def test_one_scar_covers_its_area_downslope_of_its_head():
    """A single large scar on a long slope covers the area that it reports, below its head and longer than wide."""
    settings = ScarSettings(
        landslide_share=1.0, density_per_km2=(1.0, 1.0), large_share=1.0, large_m2=(2e4, 2e4), elongation=(4.0, 4.0)
    )
    dem = np.broadcast_to(2000 - 5.0 * np.arange(100, dtype=np.float32)[:, None], (100, 100)).copy()
    slopes = slopes_of(dem, 10.0)
    likely = np.full_like(dem, 1e-9)
    likely[20, 50] = 1
    scars = draw_scars(NumpyRandom(0), slopes, likely, settings)
    rows, cols = np.nonzero(scars.mask)
    assert scars.coverage.sum() * 100 == pytest.approx(2e4, rel=0.05)
    assert scars.mask.sum() * 100 == pytest.approx(2e4, rel=0.1)
    assert rows.min() >= 19
    assert np.ptp(rows) > 2.5 * np.ptp(cols)
    assert scars.length_m[0] == pytest.approx(math.sqrt(4 / math.pi * 2e4 * 4), rel=1e-5)


def test_trigger_clusters_heads():
    """Under a strong trigger the fullest quarter of a scene holds more heads than without one."""
    slopes = slopes_of(ridge(128, 128), 10.0)
    fullest = {}
    for clustering in (0.0, 6.0):
        settings = ScarSettings(
            landslide_share=1.0, clustering=clustering, density_per_km2=(60.0, 60.0), aspect_preference=0.0
        )
        shares = []
        for seed in range(20):
            random = NumpyRandom(seed)
            heads = draw_scars(random, slopes, susceptibility(random, slopes, settings), settings).heads
            quarter = np.histogram2d(heads[:, 0], heads[:, 1], bins=2, range=[[-0.5, 127.5]] * 2)[0]
            shares.append(quarter.max() / len(heads))
        fullest[clustering] = np.mean(shares)
    assert fullest[0.0] < 0.4 < fullest[6.0]


def test_nothing_but_scars_changes_in_a_still_scene():
    """Without rain, drift and look-alikes, mean power outside scars is the same before and after."""
    for seed in range(8):
        scene = landslide_pair(NumpyRandom(seed), SHAPE, STILL)
        outside = scene.scars.coverage == 0
        for band in range(2):
            before, after = (linear(stack[:, band][:, outside]) for stack in (scene.pre_db, scene.post_db))
            # Resampling leaks a scar into neighbours of a coarse pixel, hence the wide bound there.
            bound = 0.15 if scene.coarse else 0.05
            assert 10 * abs(math.log10(np.median(after) / np.median(before))) < bound * 10 / math.log(10)


def test_canopy_lost_darkens_vh():
    """Over scenes, forest that slid loses several dB in VH, and more than in VV."""
    lost = []
    for seed in range(12):
        settings = STILL.model_copy(
            update={"coarse_share": 0.0, "density_per_km2": (40.0, 40.0), "size_factor": (2.0, 2.0)}
        )
        scene = landslide_pair(NumpyRandom(seed), SHAPE, settings)
        slid = (scene.scars.coverage > 0.9) & (scene.cover == 0) & ~scene.look.layover & ~scene.look.shadow
        if slid.sum() > 50:
            lost.append([np.log10(linear(s[:, :, slid]).mean(axis=(0, 2))) * 10 for s in (scene.pre_db, scene.post_db)])
    vv, vh = np.mean([after - before for before, after in lost], axis=0)
    assert len(lost) >= 5
    assert -8 < vh < -2.5
    assert vh < vv - 1


def test_look_alikes_change_without_a_label():
    """Each kind of look-alike occurs and changes backscatter where nothing slid."""
    settings = STILL.model_copy(update={"lookalike_share": 1.0, "landslide_share": 0.0, "mean_slope_deg": (4.0, 20.0)})
    change = {code: [] for code in range(1, len(LOOKALIKES))}
    for seed in range(16):
        scene = landslide_pair(NumpyRandom(seed), SHAPE, settings)
        assert not scene.mask.any()
        difference = scene.post_db.mean(axis=0)[1] - scene.pre_db.mean(axis=0)[1]
        for code, found in change.items():
            if (scene.lookalike == code).sum() > 60:
                found.append(np.abs(difference[scene.lookalike == code].mean()))
    for code, found in change.items():
        assert len(found) >= 2, LOOKALIKES[code]
        assert np.mean(found) > (0.1 if LOOKALIKES[code] == "field" else 1.0), LOOKALIKES[code]


def test_wet_soil_brightens_open_ground():
    """Rain after the event lifts open ground in the mean over scenes."""
    rises = []
    for seed in range(16):
        settings = STILL.model_copy(update={"wet_db": 4.0, "landslide_share": 0.0})
        scene = landslide_pair(NumpyRandom(seed), SHAPE, settings)
        ground = (scene.cover >= 2) & (scene.cover <= 4)
        if ground.sum() > 200:
            rises.append(np.mean(scene.post_db[:, 0][:, ground]) - np.mean(scene.pre_db[:, 0][:, ground]))
    assert len(rises) >= 5
    assert np.mean(rises) > 0.4


@pytest.mark.parametrize("looks", [3.0, 5.0, 15.0])
@pytest.mark.parametrize("grain", [0.0, 0.2])
def test_speckle_is_gamma(looks, grain):
    """Speckle follows the gamma law of the looks asked for, whatever its grain, and grain correlates neighbours."""
    speckle = gamma_speckle(NumpyRandom(0), (4, 2, 128, 128), looks, grain)
    sample = speckle[..., ::4, ::4].ravel()
    assert stats.kstest(sample, stats.gamma(looks, scale=1 / looks).cdf).statistic < 0.02
    assert speckle.mean() == pytest.approx(1, abs=0.01)
    neighbours = np.corrcoef(speckle[..., 1:].ravel(), speckle[..., :-1].ravel())[0, 1]
    assert neighbours == pytest.approx(0, abs=0.02) if grain == 0 else neighbours > 0.3


def test_speckle_is_new_in_every_acquisition():
    """On even ground, acquisitions share no speckle."""
    recorded = observed(NumpyRandom(1), np.ones((3, 2, 64, 64), np.float32), 5.0, coarse=False)
    correlation = np.corrcoef(recorded.reshape(6, -1))
    assert np.abs(correlation - np.eye(6)).max() < 0.08


def test_coarse_product_keeps_even_ground():
    """Averaging to coarse pixels and back keeps a constant, and smooths speckle over three pixels."""
    mean = np.full((2, 2, 65, 70), 0.25, np.float32)
    even = linear(observed(NumpyRandom(1), mean, 1e7, coarse=True))
    np.testing.assert_allclose(even, 0.25, rtol=3e-3)
    speckled = observed(NumpyRandom(1), mean, 16.0, coarse=True)
    assert np.corrcoef(speckled[..., 1:].ravel(), speckled[..., :-1].ravel())[0, 1] > 0.7


def test_missing_is_missing_in_both_bands():
    """Layover, shadow and a swath edge are NaN in VV and VH alike; the edge cuts one acquisition of a side."""
    settings = SLIDING.model_copy(update={"masked_share": 1.0, "swath_edge_share": 1.0, "acquisitions": (3, 3)})
    scene = landslide_pair(NumpyRandom(2), SHAPE, settings)
    hidden = scene.look.layover | scene.look.shadow
    for stack in (scene.pre_db, scene.post_db):
        missing = np.isnan(stack)
        np.testing.assert_array_equal(missing[:, 0], missing[:, 1])
        assert missing[..., hidden].all()
        assert sum(bool(lost.any()) for lost in missing[:, 0][:, ~hidden]) == 1


def test_given_terrain_is_used_and_its_voids_kept():
    """Real terrain comes back as given, nothing starts where it is unknown, and the void does not spread."""
    dem = ridge(96, 96)
    dem[30:50, 10:80] = np.nan
    scene = landslide_pair(NumpyRandom(1), (96, 96), BUSY.model_copy(update={"masked_share": 0.0}), dem=dem)
    np.testing.assert_array_equal(scene.dem, dem)
    rows, cols = np.round(scene.heads).astype(int).T
    assert len(rows) > 10
    assert np.isfinite(dem[rows, cols]).all()
    assert np.isfinite(scene.pre_db).any(axis=(0, 1)).all()
    known_km2 = slopes_of(dem, 10.0).known.sum() * 1e-4
    assert scene.density_per_km2 == pytest.approx(len(rows) / known_km2)


def test_unknown_terrain_holds_no_landslide():
    """Without any terrain nothing can be placed, and backscatter is still simulated."""
    scene = landslide_pair(NumpyRandom(1), (32, 32), BUSY, dem=np.full((32, 32), np.nan, np.float32))
    assert scene.heads.shape == (0, 2)
    assert scene.density_per_km2 == 0
    assert np.isfinite(scene.pre_db).any()


def test_scenes_that_cannot_be_are_refused():
    """A tiny scene and terrain of another shape raise, with what to do."""
    with pytest.raises(UsageError, match="at least 16"):
        landslide_pair(NumpyRandom(0), (8, 128))
    with pytest.raises(GridMismatchError, match="crop or resample"):
        landslide_pair(NumpyRandom(0), SHAPE, dem=np.zeros((64, 64), np.float32))


@pytest.mark.parametrize(
    "options",
    [
        {"density_per_km2": (5.0, 1.0)},
        {"elongation": (0.0, 2.0)},
        {"acquisitions": (0, 3)},
        {"acquisitions": (1, 4)},
        {"mean_slope_deg": (30.0, 10.0)},
        {"looks": (9.0, 4.0)},
        {"unknown": 1},
    ],
)
def test_settings_that_cannot_be_are_refused(options):
    """Ranges that run backwards, four acquisitions and unknown options raise."""
    with pytest.raises(ValidationError):
        LandslideSettings(**options)


def test_relief_has_the_mean_slope_asked_for():
    """The simulated relief is as steep in the mean as was asked."""
    settings = SLIDING.model_copy(update={"mean_slope_deg": (18.0, 18.0)})
    dem = landslide_pair(NumpyRandom(6), SHAPE, settings).dem
    rise = np.hypot(*np.gradient(dem.astype(float), 10.0))
    assert math.degrees(math.atan(rise.mean())) == pytest.approx(18, abs=0.1)


def test_speckle_of_scenes_has_the_looks_they_report():
    """The change between two acquisitions of one side spreads as the ratio of two gamma draws of so many looks."""
    settings = STILL.model_copy(update={"coarse_share": 0.0, "acquisitions": (2, 2), "filtered_share": 0.5})
    looks = []
    for seed in range(12):
        scene = landslide_pair(NumpyRandom(seed), SHAPE, settings)
        lit = ~scene.look.shadow
        spread = np.log(linear(scene.pre_db[1] - scene.pre_db[0]))[:, lit].var()
        # The variance of the logarithm of a gamma draw is the trigamma function of its looks.
        assert spread == pytest.approx(2 * special.polygamma(1, scene.looks), rel=0.05)
        looks.append(scene.looks)
    assert max(looks) > settings.looks[1]
