"""Scars laid into real backscatter: they change what they cover and nothing else."""

import numpy as np
import pytest
import torch
from simulation_stand_ins import ReplayedRandom, ridge

from tocsin.errors import GridMismatchError
from tocsin.simulate import NumpyRandom, ScarSettings, inject_landslides


@pytest.fixture
def real():
    """Backscatter as if real, [2, 2, 96, 96] before and [1, 2, 96, 96] after with holes, over a roof."""
    generator = np.random.default_rng(0)
    pre, post = (generator.normal(-14, 1.5, (n, 2, 96, 96)).astype(np.float32) for n in (2, 1))
    post[0, :, 40:60, 20:30] = np.nan
    pre[1, :, :10] = np.nan
    return pre, post, ridge(96, 96)


INJECTED = ScarSettings(landslide_share=1.0, density_per_km2=(60.0, 60.0), size_factor=(2.0, 2.0))


def test_injection_touches_scars_only(real):
    """Every pixel outside scars keeps its bits, NaN stays NaN, and slid canopy loses VH."""
    pre, post, dem = real
    injected = inject_landslides(NumpyRandom(0), (pre, post), dem, INJECTED)
    outside = injected.scars.coverage == 0
    assert injected.post_db.dtype == post.dtype
    assert injected.post_db[:, :, outside].tobytes() == post[:, :, outside].tobytes()
    np.testing.assert_array_equal(np.isnan(injected.post_db), np.isnan(post))
    slid = injected.mask & ~injected.look.shadow
    assert slid.sum() > 100
    assert np.nanmean((injected.post_db - post)[0, 1][slid]) < -1
    assert injected.density_per_km2 == pytest.approx(len(injected.heads) / (96 * 96 * 1e-4))


def test_injection_keeps_what_was_given(real):
    """The arrays passed in are not written to, and the same seed lays the same scars."""
    pre, post, dem = real
    copy = post.copy()
    first, again = (inject_landslides(NumpyRandom(7), (pre, post), dem, INJECTED, "descending") for _ in range(2))
    np.testing.assert_array_equal(post, copy)
    np.testing.assert_array_equal(first.post_db, again.post_db)
    assert first.look.orbit_pass == "descending"


def test_injection_agrees_between_libraries(real):
    """On the same draws, numpy and torch lay the same scars."""
    expected = inject_landslides(NumpyRandom(5), real[:2], real[2], INJECTED)
    pre, post, dem = (torch.from_numpy(array) for array in real)
    found = inject_landslides(ReplayedRandom(5), (pre, post), dem, INJECTED)
    np.testing.assert_allclose(found.heads.numpy(), expected.heads, atol=1e-3)
    assert (np.abs(found.post_db.numpy() - expected.post_db) < 0.01)[~np.isnan(expected.post_db)].mean() > 0.99


def test_injection_spares_water_and_voids(real):
    """Nothing starts in water or where the terrain is unknown; with none at all, what was given comes back."""
    pre, post, dem = real
    pre[:, 1, :, :40] = -28
    dem[:, 60:] = np.nan
    heads = inject_landslides(NumpyRandom(0), (pre, post), dem, INJECTED).heads
    assert len(heads) > 5
    assert (heads[:, 1] > 35).all()
    assert (heads[:, 1] < 60).all()
    nowhere = inject_landslides(NumpyRandom(0), (pre, post), np.full_like(dem, np.nan), INJECTED)
    assert nowhere.post_db.tobytes() == post.tobytes()
    assert nowhere.heads.shape == (0, 2)


def test_injection_sizes_follow_the_pixel(real):
    """At 30 m pixels the same areas cover a ninth of the pixels."""
    pre, post, dem = real
    scars = inject_landslides(
        NumpyRandom(3),
        (pre, post),
        dem * 3,
        ScarSettings(
            pixel_m=30.0, landslide_share=1.0, large_share=1.0, large_m2=(9e4, 9e4), density_per_km2=(0.1, 0.1)
        ),
    ).scars
    assert scars.area_m2[0] == pytest.approx(9e4, rel=1e-4)
    assert scars.coverage.sum() <= 1.1 * scars.area_m2.sum() / 900


def test_injection_refuses_other_grids(real):
    """Acquisitions and terrain of different shapes raise, and name the side."""
    pre, post, dem = real
    with pytest.raises(GridMismatchError, match="before the event"):
        inject_landslides(NumpyRandom(0), (pre[:, :1], post), dem)
    with pytest.raises(GridMismatchError, match="after the event"):
        inject_landslides(NumpyRandom(0), (pre, post[..., :50]), dem)
