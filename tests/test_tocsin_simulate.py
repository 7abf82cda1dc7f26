"""Simulated floods: the oracle that everything else is tested with has to be right itself."""

from itertools import pairwise

import array_api_compat.torch as torch_xp
import numpy as np
import pytest
import torch

from tocsin.simulate import FloodSettings, NumpyRandom, flood_scene, write_flood_scene
from tocsin.simulate.fields import gradient, parcels, power_law_field, smooth
from training.random import TorchRandom

SHAPE = (96, 128)


def test_same_seed_same_scene():
    """A seed decides every array of a scene; another seed gives another scene."""
    first, again, other = (flood_scene(NumpyRandom(seed), SHAPE) for seed in (5, 5, 6))
    for name in ("post_db", "pre_db", "water", "permanent", "dem", "cover", "shadow"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert not np.array_equal(first.post_db, other.post_db)


def test_torch_runs_the_same_code():
    """Torch draws give torch tensors of the same shapes, types and physics."""
    scene = flood_scene(TorchRandom(5), SHAPE, FloodSettings(water_share=0.4, swath_edge_share=0, relief_m=0))
    assert isinstance(scene.post_db, torch.Tensor)
    assert scene.post_db.dtype == torch.float32
    assert scene.post_db.shape == (2, *SHAPE)
    assert scene.water.dtype == torch.bool
    assert scene.post_db[1][scene.water].mean() < scene.post_db[1][~scene.water].mean()


@pytest.mark.parametrize("share", [0.1, 0.3, 0.7])
def test_flood_covers_the_share_asked_for(share):
    """The level is the quantile of height above the river, so that the flooded share is what was asked."""
    settings = FloodSettings(water_share=share, swath_edge_share=0)
    shares = [flood_scene(NumpyRandom(seed), SHAPE, settings).water.mean() for seed in range(8)]
    assert np.mean(shares) == pytest.approx(share, abs=0.08)


def test_water_only_rises():
    """Permanent water is water during the flood too, and a dry scene holds no other."""
    for seed in range(12):
        scene = flood_scene(NumpyRandom(seed), SHAPE)
        assert scene.water[scene.permanent].all()
    dry = flood_scene(NumpyRandom(1), SHAPE, FloodSettings(water_share=0.0))
    np.testing.assert_array_equal(dry.water, dry.permanent)


def test_water_is_darker_than_land_in_vh():
    """Open water scatters VH away: in the mean over scenes it lies far below land, as in Sen1Floods11 (8.6 dB)."""
    settings = FloodSettings(water_share=0.5, swath_edge_share=0, relief_m=0)
    differences = []
    for seed in range(16):
        scene = flood_scene(NumpyRandom(seed), SHAPE, settings)
        vh_db = scene.post_db[1]
        differences.append(np.median(vh_db[~scene.water]) - np.median(vh_db[scene.water]))
    assert 4 < np.mean(differences) < 12


def test_wind_lifts_vv_more_than_vh():
    """Between calm and windy scenes, VV of open water varies more than VH does."""
    settings = FloodSettings(water_share=1.0, swath_edge_share=0, relief_m=0, vegetated_share=0, offset_db=0)
    medians = np.array(
        [np.median(flood_scene(NumpyRandom(seed), (48, 48), settings).post_db, axis=(1, 2)) for seed in range(24)]
    )
    assert medians[:, 0].std() > 1.3 * medians[:, 1].std()


def test_pre_event_shows_only_permanent_water():
    """Where the flood came, the pre-event acquisition is as bright as land."""
    settings = FloodSettings(water_share=0.4, swath_edge_share=0, relief_m=0)
    gaps = []
    for seed in range(8):
        scene = flood_scene(NumpyRandom(seed), SHAPE, settings)
        flooded = scene.water & ~scene.permanent
        gaps.append(np.median(scene.pre_db[1][flooded]) - np.median(scene.post_db[1][flooded]))
    assert np.mean(gaps) > 4


def test_swath_edge_is_missing_in_both_bands():
    """What lies beyond the swath edge is NaN in VV and VH alike, and the pre-event acquisition is whole."""
    scene = flood_scene(NumpyRandom(2), SHAPE, FloodSettings(swath_edge_share=1.0))
    missing = np.isnan(scene.post_db)
    assert 0 < missing.mean() < 0.6
    np.testing.assert_array_equal(missing[0], missing[1])
    assert np.isfinite(scene.pre_db).all()
    whole = flood_scene(NumpyRandom(2), SHAPE, FloodSettings(swath_edge_share=0.0))
    assert np.isfinite(whole.post_db).all()


@pytest.mark.parametrize("looks", [4.4, 9.0])
def test_speckle_has_the_looks_asked_for(looks):
    """Mean square over variance of linear power on calm water alone is the equivalent number of looks."""
    settings = FloodSettings(
        water_share=1.0, relief_m=0, swath_edge_share=0, vegetated_share=0, offset_db=0, looks=looks, pre_event=False
    )
    measured = []
    for seed in range(12):
        scene = flood_scene(NumpyRandom(seed), (64, 64), settings)
        power = 10 ** (scene.post_db[1, 20:44, 20:44] / 10)
        measured.append(power.mean() ** 2 / power.var())
    assert np.median(measured) == pytest.approx(looks, rel=0.35)


def test_shadow_lies_on_slopes_that_turn_away():
    """Where a scene has shadow, the ground falls away from the radar, and the echo is noise alone."""
    for seed in range(40):
        scene = flood_scene(NumpyRandom(seed), SHAPE, FloodSettings(relief_m=900.0, swath_edge_share=0))
        if scene.shadow.sum() > 200:
            break
    _, eastward = np.gradient(scene.dem)
    away = eastward if scene.orbit_pass == "descending" else -eastward
    assert scene.shadow.sum() > 200
    assert (away[scene.shadow] > 0).all()
    assert np.median(scene.post_db[0][scene.shadow]) < np.median(scene.post_db[0][~scene.shadow]) - 5


@pytest.mark.parametrize("exponent", [2.0, 3.5])
def test_power_law_field_has_its_spectrum(exponent):
    """The radially averaged power of the field falls with the exponent asked for."""
    power = np.mean(
        [
            np.abs(
                np.fft.rfft2(
                    power_law_field(NumpyRandom(seed), (256, 256), exponent)
                    * np.hanning(256)[:, None]
                    * np.hanning(256)[None, :]
                )
            )
            ** 2
            for seed in range(6)
        ],
        axis=0,
    )
    rows, cols = np.fft.fftfreq(256)[:, None], np.fft.rfftfreq(256)[None, :]
    radius = np.hypot(rows, cols)
    rings = np.geomspace(0.03, 0.3, 8)
    means = [power[(radius >= low) & (radius < high)].mean() for low, high in pairwise(rings)]
    slope = np.polyfit(np.log(np.sqrt(rings[:-1] * rings[1:])), np.log(means), 1)[0]
    assert -slope == pytest.approx(exponent, abs=0.35)


def test_gradient_of_a_plane_is_exact():
    """Central and one-sided differences of a plane are its slopes everywhere."""
    rows, cols = np.mgrid[0:7, 0:9].astype(np.float32)
    down, along = gradient(2 * rows - 3 * cols, NumpyRandom(0).xp)
    np.testing.assert_allclose(down, 2, atol=1e-5)
    np.testing.assert_allclose(along, -3, atol=1e-5)
    tensor = torch.from_numpy(2 * rows - 3 * cols)
    assert torch.allclose(gradient(tensor, torch_xp)[1], torch.tensor(-3.0))


def test_smooth_keeps_a_constant_and_the_mean_of_an_impulse():
    """The kernel adds up to one, edges included."""
    xp = NumpyRandom(0).xp
    np.testing.assert_allclose(smooth(np.full((5, 6), 3.0, np.float32), 0.25, xp), 3.0, rtol=1e-6)
    impulse = np.zeros((9, 9), np.float32)
    impulse[4, 4] = 1
    assert smooth(impulse, 0.2, xp).sum() == pytest.approx(1.0, rel=1e-6)


def test_parcels_number_every_pixel():
    """Parcel numbers lie in range, and a parcel is about as wide as asked."""
    labels, count = parcels(NumpyRandom(3), (64, 64), 12.0)
    assert labels.min() >= 0
    assert labels.max() < count
    sizes = np.bincount(labels.ravel())
    assert 60 < np.median(sizes[sizes > 0]) < 600


def test_demo_files_agree_with_each_other(tmp_path):
    """Everything that the demo writes is on one grid, and the truth holds the permanent water."""
    from tocsin.grid import Window
    from tocsin.raster import open_backscatter, open_raster

    files = write_flood_scene(tmp_path, shape=(80, 100))
    with open_backscatter(files.post) as post, open_backscatter(files.pre) as pre:
        window = Window(0, 0, 80, 100)
        assert post.read(window).shape == (2, 80, 100)
        assert post.grid == pre.grid
        assert (post.acquired.start - pre.acquired.start).days == 12
        read = {}
        for name in ("dem", "reference_water", "truth"):
            with open_raster(getattr(files, name)) as raster:
                assert raster.grid == post.grid
                read[name] = raster.read(window)[0]
    assert (read["truth"] >= read["reference_water"]).all()
    assert 0.02 < read["truth"].mean() < 0.6
    assert files.orbit_pass in {"ascending", "descending"}
    assert 30 <= files.incidence_deg <= 46
