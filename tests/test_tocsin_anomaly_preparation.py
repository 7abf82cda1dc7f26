"""From motion to what an encoder sees: padding, averaging, filling, scaling."""

import numpy as np
import pytest

from tocsin.anomaly.geometry import CELLS, CHIP, along_both, cell_shares, factor_of, geometry_of
from tocsin.anomaly.preparation import Preparation, fit_preparation, observable_of, prepare
from tocsin.errors import TooLargeError, UsageError
from tocsin.phase import RAD_PER_METRE, of_motion, wrap


def motion(count=3, shape=(60, 70), seed=1):
    """Return smooth motion, m."""
    random = np.random.default_rng(seed)
    row, col = np.mgrid[: shape[0], : shape[1]]
    waves = [np.sin(row / 9 + each) * np.cos(col / 11 - each) for each in random.uniform(0, 6, count)]
    return (0.02 * np.array(waves)).astype(np.float32)


def preparation(values, rad_per_m=-100.0):
    """Return a preparation under which all of these values are observable."""
    return Preparation(geometry_of(values.shape[1:]), observable_of(values), rad_per_m)


def test_a_small_grid_lies_in_the_middle_of_the_chip_as_it_is():
    """Pixels are copied, what is around them is missing."""
    values = motion()
    seen = prepare(values, preparation(values))
    top, left = (CHIP - 60) // 2, (CHIP - 70) // 2
    inside = seen.phase[:, 0, top : top + 60, left : left + 70]
    mean = values.mean(axis=(1, 2), keepdims=True, dtype=np.float64)
    np.testing.assert_allclose(inside, (values - mean) * -100, atol=1e-5)
    assert seen.measured.sum() == values.size
    assert np.isnan(seen.phase).sum() == 3 * CHIP * CHIP - values.size


def test_a_large_grid_is_averaged():
    """Twice the chip: every chip pixel is the mean of four."""
    values = motion(1, (2 * CHIP, 2 * CHIP))
    seen = prepare(values, preparation(values))
    wanted = values[0].reshape(CHIP, 2, CHIP, 2).mean(axis=(1, 3), dtype=np.float64)
    np.testing.assert_allclose(seen.phase[0, 0], (wanted - wanted.mean()) * -100, atol=1e-4)


@pytest.mark.parametrize(("shape", "error"), [((20, 200), UsageError), ((200, 700), TooLargeError)])
def test_grids_of_unfit_size_are_refused(shape, error):
    """Less than four cells, and more than three times the chip, are errors."""
    with pytest.raises(error, match=str(shape[0])):
        factor_of(shape)


@pytest.mark.parametrize("shape", [(60, 70), (224, 224), (300, 500)])
def test_cells_go_back_to_the_grid(shape):
    """A constant stays one, and a slope over the cells is a slope over the grid."""
    geometry = geometry_of(shape)
    np.testing.assert_allclose(along_both(geometry.up_rows, np.ones((CELLS, CELLS)), geometry.up_cols), 1)
    slope = np.repeat(np.arange(CELLS, dtype=float)[:, None], CELLS, axis=1)
    drawn = along_both(geometry.up_rows, slope, geometry.up_cols)
    steps = np.diff(drawn[10:-10, 0])
    np.testing.assert_allclose(steps, 1 / (8 * factor_of(shape)), atol=1e-9)


def test_missing_pixels_are_interpolated_and_never_spread():
    """A hole is filled from around it, no other pixel changes but by the mean, and the hole is no measurement."""
    values = motion(1)
    holed = values.copy()
    holed[0, 20:26, 30:37] = np.nan
    fixed = preparation(values)
    whole, seen = prepare(values, fixed), prepare(holed, fixed)
    there = np.isfinite(whole.phase[0, 0])
    np.testing.assert_array_equal(np.isfinite(seen.phase[0, 0]), there)
    assert whole.measured.sum() - seen.measured.sum() == 6 * 7
    known = seen.measured[0]
    shift = (seen.phase - whole.phase)[0, 0][known]
    np.testing.assert_allclose(shift, shift[0], atol=1e-4)
    hole = whole.measured[0] & ~known
    around = whole.phase[0, 0][hole]
    assert np.abs(seen.phase[0, 0][hole] - around).max() < 0.6 * np.abs(whole.phase[0, 0][there]).max()
    assert not seen.valid[0, 20:26, 30:37].any()


@pytest.mark.parametrize("stored", [np.nan, np.inf, -np.inf, 1e30])
def test_what_is_no_measurement_has_no_value(stored):
    """Whatever stands where nothing was measured, the rest is the same."""
    values = motion(1)
    fixed = preparation(values)
    values[0, :9] = stored
    wanted = values.copy()
    wanted[0, :9] = np.nan
    np.testing.assert_array_equal(prepare(values, fixed).phase, prepare(wanted, fixed).phase)


def test_far_from_any_measurement_nothing_is_invented():
    """The middle of a hole much wider than the filter stays missing, and so does all of an empty image."""
    values = motion(1, (200, 200))
    fixed = preparation(values)
    holed = values.copy()
    holed[0, 40:160, 40:160] = np.nan
    assert np.isnan(prepare(holed, fixed).phase[0, 0, 112, 112])
    nothing = prepare(np.full_like(values, np.nan), fixed)
    assert np.isnan(nothing.phase).all()
    assert not nothing.measured.any()


def test_the_scale_belongs_to_the_fit_set():
    """What is ten times larger than anything fitted stays ten times larger."""
    values = motion(5)
    fixed = fit_preparation(values, geometry_of(values.shape[1:]), "scaled", 1.0)
    apart = np.abs(values - values.mean(axis=(1, 2), keepdims=True)).max()
    assert fixed.rad_per_m == pytest.approx(-np.pi / apart, rel=1e-5)
    seen = prepare(np.concatenate([values, 10 * values]), fixed)
    np.testing.assert_allclose(seen.phase[5:], 10 * seen.phase[:5], rtol=1e-4, atol=1e-4)
    assert np.nanmax(np.abs(seen.phase[:5])) == pytest.approx(np.pi, rel=1e-5)


def test_wrapped_scaling_is_the_true_phase():
    """Up to one constant an image, the encoder sees the phase of the interferogram."""
    values = 3 * motion(1)
    fixed = fit_preparation(values, geometry_of(values.shape[1:]), "wrapped", 0.999)
    assert fixed.rad_per_m == -RAD_PER_METRE
    seen = prepare(values, fixed).phase[0, 0]
    apart = wrap(seen[np.isfinite(seen)] - of_motion(values[0]).ravel())
    np.testing.assert_allclose(wrap(apart - apart[0]), 0, atol=1e-3)


def test_pixels_that_are_mostly_missing_are_not_observable():
    """What two of three fit epochs lack is never seen, one of three is."""
    values = motion(3)
    values[:2, :5] = np.nan
    values[:1, -5:] = np.nan
    fixed = fit_preparation(values, geometry_of(values.shape[1:]), "scaled", 0.999)
    assert not fixed.observable[:5].any()
    assert fixed.observable[5:].all()


def test_shares_of_cells():
    """A cell counts its measured pixels."""
    measured = np.zeros((1, CHIP, CHIP), dtype=bool)
    measured[0, 8:12, :8] = True
    shares = cell_shares(measured)
    assert shares[0, 1, 0] == 0.5
    assert shares.sum() == 0.5
