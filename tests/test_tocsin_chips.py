"""Windows, weights and mosaic: what goes through chips comes out as it was."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin.chips import ChipPlan, Mosaic, dequantise, entry_weights, plan, quantise, taper
from tocsin.grid import Window

CHIP = 12


def scenes(chip=CHIP):
    """Any scene from 1 px to 3 chips + 7 px with any overlap, any share of holes, values in dB or probability."""
    side = st.integers(1, 3 * chip + 7)
    return st.tuples(side, side, st.integers(0, chip - 1), st.integers(0, 2**32 - 1), st.sampled_from(["db", "p"]))


def draw(height, width, seed, kind, bands=1):
    """Scene [bands, height, width] with holes, and the same padded with NaN so that any window can be cut."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(-60, 30, (bands, height, width)) if kind == "db" else rng.random((bands, height, width))
    values[rng.random(values.shape) < rng.choice([0, 0.1, 0.9])] = np.nan
    return values.astype(np.float32)


def cut(scene, window):
    """The window of a scene, NaN outside."""
    out = np.full((scene.shape[0], window.height, window.width), np.nan, np.float32)
    part = scene[:, window.row : window.row + window.height, window.col : window.col + window.width]
    out[:, : part.shape[1], : part.shape[2]] = part
    return out


def mosaic_of(windows, order, values_of, bands=1):
    """Add windows in `order` and stack the rows that come out, checking that they come gapless and ascending."""
    mosaic = Mosaic(windows, bands)
    parts, at = [], 0
    for window in order:
        for row, rows in mosaic.add(window, values_of(window)):
            assert row == at
            at += rows.shape[1]
            parts.append(rows)
    assert mosaic.finished
    return np.concatenate(parts, axis=1)


@given(scenes())
@settings(max_examples=300, deadline=None)
def test_identity(case):
    """Identity chips give the scene back within 1e-6 at valid pixels and NaN elsewhere, for any size and overlap."""
    height, width, overlap, seed, kind = case
    scene = draw(height, width, seed, kind)
    windows = plan((height, width), CHIP, overlap)
    out = mosaic_of(windows, windows, lambda window: cut(scene, window))
    assert out.shape == scene.shape
    np.testing.assert_allclose(out, scene, rtol=0, atol=1e-6, equal_nan=True)


@given(scenes(), st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_order_does_not_matter(case, shuffler):
    """Chips that disagree blend to the same bits in whatever order they arrive."""
    height, width, overlap, seed, kind = case
    windows = plan((height, width), CHIP, overlap)
    results = {
        window: draw(CHIP, CHIP, [seed, number], kind, bands=2) if number % 5 else None
        for number, window in enumerate(windows)
    }
    shuffled = list(windows)
    shuffler.shuffle(shuffled)
    straight = mosaic_of(windows, windows, results.get, bands=2)
    np.testing.assert_array_equal(mosaic_of(windows, shuffled, results.get, bands=2), straight)


@given(scenes())
@settings(max_examples=100, deadline=None)
def test_blend_is_a_partition_of_unity(case):
    """The blend equals the weighted sum with taper weights that sum to one over the windows of each axis."""
    height, width, overlap, seed, _ = case
    windows = plan((height, width), CHIP, overlap)
    results = {window: draw(CHIP, CHIP, [seed, number], "p") for number, window in enumerate(windows)}
    results = {window: np.nan_to_num(values) for window, values in results.items()}
    weight = taper(CHIP, overlap)
    both = weight[:, None] * weight[None, :]
    total = np.zeros((height + 2 * CHIP, width + 2 * CHIP))
    summed = np.zeros_like(total)
    for window, values in results.items():
        place = np.s_[window.row : window.row + CHIP, window.col : window.col + CHIP]
        total[place] += both
        summed[place] += both * values[0]
    expected = (summed[:height, :width] / total[:height, :width])[None]
    np.testing.assert_allclose(mosaic_of(windows, windows, results.get), expected, rtol=0, atol=1e-5)


@given(scenes())
@settings(max_examples=100, deadline=None)
def test_plan_covers_without_waste(case):
    """Every pixel lies in a window, every window holds a pixel, and windows know their number."""
    height, width, overlap, _, _ = case
    windows = plan((height, width), CHIP, overlap)
    covered = np.zeros((height, width), bool)
    for number, window in enumerate(windows):
        assert windows.number(window) == number
        part = covered[window.row : window.row + CHIP, window.col : window.col + CHIP]
        assert not part.all()
        part[:] = True
    assert covered.all()
    assert len(list(windows)) == len(windows) == windows.rows * windows.cols


def test_memory_is_width_times_chip():
    """The mosaic holds chip + overlap rows whatever the height of the scene."""
    windows = plan((100 * CHIP, 50), CHIP, 5)
    mosaic = Mosaic(windows)
    zeros = np.zeros((1, CHIP, CHIP), np.float32)
    for window in windows[: len(windows) // 2]:
        mosaic.add(window, zeros)
        assert mosaic._band.shape[1] + mosaic._carry.shape[1] <= CHIP + 5
        assert not mosaic._waiting


def test_late_window_keeps_rows_back():
    """Rows come out when their last window has arrived, not before."""
    windows = plan((20, 20), CHIP, 2)
    zeros = np.zeros((1, CHIP, CHIP), np.float32)
    mosaic = Mosaic(windows)
    for window in windows[1:]:
        assert list(mosaic.add(window, zeros)) == []
    assert [(row, rows.shape) for row, rows in mosaic.add(windows[0], zeros)] == [(0, (1, 10, 20)), (10, (1, 10, 20))]


def test_window_not_run_is_no_data():
    """A window that was not run is NaN in all its pixels, shared ones included."""
    windows = plan((CHIP, 2 * CHIP - 4), CHIP, 4)
    ones = np.ones((1, CHIP, CHIP), np.float32)
    out = mosaic_of(windows, windows, lambda window: ones if window.col == 0 else None)
    assert np.isnan(out[:, :, CHIP - 4 :]).all()
    assert (out[:, :, : CHIP - 4] == 1).all()


@pytest.mark.parametrize(
    ("window", "values", "complaint"),
    [
        (Window(1, 0, CHIP, CHIP), np.zeros((1, CHIP, CHIP), np.float32), "a window of"),
        (Window(0, 0, CHIP, CHIP - 1), np.zeros((1, CHIP, CHIP), np.float32), "a window of"),
        (Window(0, 0, CHIP, CHIP), np.zeros((1, CHIP, CHIP + 1), np.float32), "of shape"),
        (Window(-10, 0, CHIP, CHIP), np.zeros((1, CHIP, CHIP), np.float32), "a window of"),
    ],
)
def test_foreign_windows_are_refused(window, values, complaint):
    """A window or result that is not the plan's is refused."""
    with pytest.raises(ValueError, match=complaint):
        Mosaic(plan((20, 20), CHIP, 2)).add(window, values)


def test_same_window_twice_is_refused():
    """A window that comes twice is refused, whether it waits or was blended."""
    windows = plan((20, 20), CHIP, 2)
    zeros = np.zeros((1, CHIP, CHIP), np.float32)
    mosaic = Mosaic(windows)
    mosaic.add(windows[0], zeros)
    mosaic.add(windows[2], zeros)
    for window in (windows[0], windows[2]):
        with pytest.raises(ValueError, match="twice"):
            mosaic.add(window, zeros)


@pytest.mark.parametrize("sizes", [(0, 5, 8, 2), (5, 5, 0, 0), (5, 5, 8, 8), (5, 5, 8, -1)])
def test_impossible_plans_are_refused(sizes):
    """An empty scene, or an overlap as large as the chip, is refused."""
    with pytest.raises(ValueError, match="0 <= overlap < chip"):
        ChipPlan(*sizes)


def test_plan_is_a_sequence():
    """A plan counts from both ends and ends where it ends."""
    windows = plan((20, 20), CHIP, 2)
    assert windows[-1] == Window(10, 10, CHIP, CHIP)
    assert windows[1:3] == [Window(0, 10, CHIP, CHIP), Window(10, 0, CHIP, CHIP)]
    with pytest.raises(IndexError):
        windows[4]


@pytest.mark.parametrize("overlap", [0, 1, 64, 300, 511])
def test_taper_is_positive_and_symmetric(overlap):
    """No pixel of a chip weighs nothing, and left equals right."""
    weight = taper(512, overlap)
    assert weight.min() > 0
    assert weight.max() <= 1
    np.testing.assert_array_equal(weight, weight[::-1])
    entries = entry_weights(4, 512, overlap)
    assert entries.shape == (4, overlap)
    assert ((entries > 0) & (entries <= 1)).all()


def test_quantise_round_trip():
    """Every stored step survives the way to probability and back; NaN is 65535; float noise is clipped."""
    stored = np.arange(10001, dtype=np.uint16)
    np.testing.assert_array_equal(quantise(dequantise(stored)), stored)
    odd = np.array([np.nan, -1e-7, 1 + 1e-6, 0.00005, 0.49996], np.float32)
    np.testing.assert_array_equal(quantise(odd), [65535, 0, 10000, 0, 5000])
    assert np.isnan(dequantise(np.array([65535], np.uint16))).all()
    assert np.isnan(odd[0])


def test_quantise_leaves_its_input():
    """Quantising does not write into the array that it is given."""
    values = np.array([0.3, np.nan], np.float32)
    quantise(values)
    np.testing.assert_array_equal(values, np.array([0.3, np.nan], np.float32))


def test_random_order_of_a_long_scene():
    """A long scene in random order equals the straight one: nothing depends on which row of windows comes first."""
    windows = plan((9 * CHIP + 3, 2 * CHIP), CHIP, 7)
    results = {window: draw(CHIP, CHIP, number, "p") for number, window in enumerate(windows)}
    order = list(windows)
    np.random.default_rng(7).shuffle(order)
    np.testing.assert_array_equal(mosaic_of(windows, order, results.get), mosaic_of(windows, windows, results.get))
