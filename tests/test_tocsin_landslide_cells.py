"""Cells of a landslide map: means over chips, areas, rank, and the number of landslides to expect."""

import math

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS
from scipy import stats

from tocsin.chips import quantise
from tocsin.grid import Grid
from tocsin.hazards.landslide import HIGH, LOW, NO_DATA, NONE, NOT_OBSERVABLE, STEP, cell_grid, decide
from tocsin.landslide_cells import LEAST_SEEN, CellGround, Cells, ChipAnswers, count_interval, decided

UTM = CRS.from_epsg(32619)


def place(height, width, size_m=10.0, crs=UTM):
    """Build a grid of square pixels."""
    return Grid(crs, Affine(size_m, 0.0, 7e5, 0.0, -size_m, 2e6), height, width)


def answered(density, seen=None, shares=(0.2, 0.3, 0.5)):
    """Collect answers of chips: density [rows, cols], one set of probabilities for all."""
    answers = ChipAnswers(*density.shape)
    seen = np.ones(density.shape) if seen is None else seen
    for at in np.random.default_rng(1).permutation(density.size):
        where = np.unravel_index(at, density.shape)
        known = np.float32(shares) if np.isfinite(density[where]) else np.full(3, np.nan, np.float32)
        answers.add(tuple(map(int, where)), known, float(density[where]), float(seen[where]))
    return answers


def seen_ground(grid, codes=None):
    """Count the ground of a scene that was seen everywhere, or has codes."""
    ground = CellGround(grid, cell_grid(grid))
    codes = np.zeros(grid.shape, np.uint8) if codes is None else codes
    for row in range(0, grid.height, 50):
        ground.add(row, codes[row : row + 50])
    return ground


def test_a_cell_is_the_mean_of_its_four_chips():
    """Each cell is the plain mean of the chips that begin at its corners, whatever the order of arrival."""
    density = np.random.default_rng(2).random((5, 4))
    any_mean, high_mean, mean = answered(density).means()
    expected = (density[:-1, :-1] + density[1:, :-1] + density[:-1, 1:] + density[1:, 1:]) / 4
    np.testing.assert_allclose(mean, expected, rtol=1e-12)
    np.testing.assert_allclose(any_mean, 0.8, rtol=1e-6)
    np.testing.assert_allclose(high_mean, 0.5, rtol=1e-6)


def test_silent_chips_are_left_out():
    """A chip without an answer counts for nothing; a cell of silent chips has none."""
    density = np.full((4, 4), np.nan)
    density[0, 0], density[0, 1] = 2.0, 4.0
    mean = answered(density).means()[2]
    assert (mean[0, 0], mean[0, 1]) == (3.0, 4.0)
    assert np.isnan(mean[1:]).all()
    assert np.isnan(mean[0, 2])


def test_chips_of_which_hardly_anything_was_seen_count_only_alone():
    """A sliver changes no cell that a better chip covers; where it is alone it counts, and that is said."""
    density, seen = np.array([[1.0, 90.0, 70.0]] * 2), np.array([[1.0, LEAST_SEEN / 2, LEAST_SEEN / 2]] * 2)
    answers = answered(density, seen)
    np.testing.assert_array_equal(answers.means()[2], [[1.0, 80.0]])
    np.testing.assert_array_equal(answers.thin(), [[False, True]])
    enough = answered(density, np.maximum(seen, LEAST_SEEN))
    np.testing.assert_array_equal(enough.means()[2], [[45.5, 80.0]])
    assert not enough.thin().any()


@pytest.mark.parametrize("cell", [(0, 0), (0, 2), (1, 1), (3, 4)])
def test_nothing_counts_twice(cell):
    """Landslides of any one cell, the corner's too, are counted once: chips state density over the ground they see."""
    grid = place(4 * STEP, 5 * STEP)
    rows, cols = 4, 5
    density = np.zeros((rows + 1, cols + 1))
    km2 = (STEP * 0.01) ** 2
    for row in range(rows + 1):
        for col in range(cols + 1):
            inside = [(i, j) for i in (row - 1, row) for j in (col - 1, col) if 0 <= i < rows and 0 <= j < cols]
            density[row, col] = 8.0 * (cell in inside) / (km2 * len(inside))
    cells = decided(answered(density), seen_ground(grid), 0.5)
    assert cells.expected.sum() == pytest.approx(8.0, rel=2e-3)


@pytest.mark.parametrize(("shape", "size_m"), [((1, 1), 10.0), ((200, 130), 10.0), ((67, 43), 30.0), ((150, 90), 8.0)])
def test_a_constant_density_counts_the_observed_area(shape, size_m):
    """With the same density everywhere the expected number is density x observed area, for any size of scene."""
    grid = place(*shape, size_m)
    codes = np.random.default_rng(3).choice(np.array([0, 1, NO_DATA], np.uint8), shape)
    codes[0, 0] = 0
    model_grid = grid if size_m < 15 else grid.resampled(10.0)
    ground = CellGround(grid, cell_grid(model_grid))
    ground.add(0, codes)
    cells = decided(answered(np.full([size + 1 for size in ground.seen.shape], 12.0)), ground, 0.5)
    area = np.broadcast_to(grid.pixel_area_km2(0, grid.height), shape)
    observed = area[codes != NO_DATA].sum()
    assert cells.expected.sum() == pytest.approx(12.0 * observed, rel=1e-9)
    assert cells.slid_km2.sum() == pytest.approx(area[codes == 1].sum(), rel=1e-9)


def test_ground_lies_in_the_cell_of_its_pixel():
    """Every pixel counts in the cell that its centre lies in, also where pixels are three times the model's."""
    grid = place(70, 90, 30.0)
    cells = cell_grid(grid.resampled(10.0))
    codes = np.full(grid.shape, NO_DATA, np.uint8)
    codes[21, 43], codes[22, 44], codes[69, 89] = 0, 1, NOT_OBSERVABLE
    ground = CellGround(grid, cells)
    ground.add(0, codes[:22])
    ground.add(22, codes[22:])
    assert np.argwhere(ground.seen).tolist() == [[1, 2], [3, 4]]
    assert np.argwhere(ground.observed).tolist() == [[1, 2]]
    assert ground.slid[1, 2] == pytest.approx(ground.seen[1, 2] / 2, rel=1e-5)


def test_cells_that_are_mostly_excluded_are_not_observable():
    """254 needs more than half of the seen ground; nothing of such a cell is probability, density or observed area."""
    grid = place(STEP, 4 * STEP)
    codes = np.zeros(grid.shape, np.uint8)
    codes[:, :40] = NOT_OBSERVABLE
    codes[:, STEP : STEP + 30] = NOT_OBSERVABLE
    codes[:, 2 * STEP : 3 * STEP] = NO_DATA
    codes[:40, 3 * STEP :] = NO_DATA
    codes[40:60, 3 * STEP :] = NOT_OBSERVABLE
    ground = seen_ground(grid, codes)
    cells = decided(answered(np.full((2, 5), 30.0)), ground, 0.5)
    assert cells.codes.tolist() == [[NOT_OBSERVABLE, HIGH, NO_DATA, NOT_OBSERVABLE]]
    assert (cells.any_probability != 65535).tolist() == [[False, True, False, False]]
    assert np.isfinite(cells.density_per_km2).tolist() == [[False, True, False, False]]
    assert (cells.observed_km2 > 0).tolist() == [[False, True, False, False]]
    assert cells.observed_km2[0, 1] == pytest.approx(34 / 64 * ground.seen[0, 1], rel=1e-4)


def test_class_is_decided_from_stored_probabilities():
    """Who reads both probabilities as stored gets the class of every judged cell."""
    grid = place(6 * STEP, 6 * STEP)
    random = np.random.default_rng(4)
    answers = ChipAnswers(7, 7)
    for row, col in np.ndindex(7, 7):
        shares = random.dirichlet((1, 1, 1)).astype(np.float32)
        answers.add((row, col), shares, 5.0, 1.0)
    cells = decided(answers, seen_ground(grid), 0.45)
    np.testing.assert_array_equal(cells.codes, decide(cells.any_probability, cells.high_probability, 0.45))
    assert {NONE, LOW, HIGH} >= set(np.unique(cells.codes))
    assert len(np.unique(cells.codes)) > 1
    np.testing.assert_array_equal(cells.any_probability, quantise(answers.means()[0].astype(np.float32)))


def known_cells(**changes):
    """Build one row of five cells: high with many small slides, low with a huge one, two low ones, and none."""
    known = {
        "codes": np.array([[HIGH, LOW, LOW, LOW, NONE]], np.uint8),
        "any_probability": np.array([[9000, 6000, 7000, 8000, 100]], np.uint16),
        "high_probability": np.array([[8000, 100, 100, 100, 0]], np.uint16),
        "density_per_km2": np.array([[50, 2, 5, 5, 0.5]], np.float32),
        "observed_km2": np.full((1, 5), 0.4),
        "slid_km2": np.array([[0.01, 0.2, 0.01, 0.01, 0.3]]),
    }
    return Cells(**(known | changes))


def test_rank_by_the_larger_of_two_shares():
    """Many small slides come first, one huge slide of low density next, equals by probability; none has no rank."""
    cells = known_cells()
    assert cells.ranked().tolist() == [1, 0, 3, 2]
    np.testing.assert_allclose(cells.shares(), [[20 / 24.8, 0.2 / 0.23, 2 / 24.8, 2 / 24.8, 0]])
    flat = known_cells(slid_km2=np.zeros((1, 5)))
    assert flat.ranked().tolist() == [0, 3, 2, 1]
    same = known_cells(any_probability=np.full((1, 5), 9000, np.uint16))
    assert same.ranked().tolist() == [1, 0, 2, 3]


def test_nothing_to_rank():
    """A quiet scene has no ranked cell and shares of 0."""
    cells = known_cells(codes=np.zeros((1, 5), np.uint8))
    assert cells.ranked().size == 0
    assert not cells.shares().any()


@pytest.mark.parametrize("mean", [0.01, 0.3, 3.0, 37.9, 400.0, 12345.6])
def test_chance_alone_gives_poisson_quantiles(mean):
    """Without a measured error the bounds are the 5 and 95 % quantiles of a Poisson count."""
    assert count_interval(mean, mean, 0.0) == (stats.poisson.ppf(0.05, mean), stats.poisson.ppf(0.95, mean))


def test_the_interval_holds_the_number_as_often_as_it_says():
    """Over numbers drawn with an error of the stated size, at least 90 % lie inside, and not nearly all."""
    random, error = np.random.default_rng(5), 0.3
    true = random.uniform(5, 500, 3000)
    expected = true * np.exp(random.normal(0, error, true.size))
    count = random.poisson(true)
    bounds = np.array([count_interval(value, value, error) for value in expected])
    share = ((bounds[:, 0] <= count) & (count <= bounds[:, 1])).mean()
    assert 0.9 <= share < 0.985


def test_what_quiet_cells_expect_may_be_nothing():
    """Below, only cells with landslides count; a measured error widens both ways; unseen is no number at all."""
    assert count_interval(0.0, 30.0, 0.0) == (0.0, stats.poisson.ppf(0.95, 30.0))
    low, high = count_interval(100.0, 120.0, 0.0)
    wide_low, wide_high = count_interval(100.0, 120.0, 0.4)
    assert wide_low < low < high < wide_high
    assert count_interval(0.0, 0.0, 0.4) == (0.0, 0.0)
    cells = known_cells()
    assert cells.interval(0.0) == count_interval(24.8, 25.0, 0.0)
    assert known_cells(observed_km2=np.zeros((1, 5))).interval(0.0) is None
    assert math.isclose(cells.km2(LOW), 1.2)
