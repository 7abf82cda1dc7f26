"""Scenes in small."""

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS

from tocsin.grid import Grid, Window
from tocsin.thumbnail import CELLS, Backdrop, ClassThumbnail


def grid(height, width):
    """Build any grid of a shape."""
    return Grid(CRS.from_epsg(32631), Affine(10, 0, 0, 0, -10, 0), height, width)


@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (880, 880), (2641, 1000), (5000, 9000)])
def test_no_picture_exceeds_its_cells_and_none_is_left_out(shape):
    """Memory is bounded and every cell gets a sample, whatever the strips."""
    thumbnail = ClassThumbnail(shape, (0, 1))
    for row in range(0, shape[0], 61):
        thumbnail.add(row, np.ones((min(61, shape[0] - row), shape[1]), dtype=np.uint8))
    shares = thumbnail.shares()
    assert max(shares[1].shape) <= CELLS
    assert (shares[1] == 1).all()
    assert (shares[0] == 0).all()


def test_strips_never_change_a_thumbnail():
    """Shares of random codes are the same for any strips, and close to the truth."""
    codes = (np.random.default_rng(0).random((3000, 1800)) < 0.3).astype(np.uint8)
    codes[:1500] = 0
    pictures = []
    for height in (1, 64, 449, 3000):
        thumbnail = ClassThumbnail(codes.shape, (0, 1))
        for row in range(0, 3000, height):
            thumbnail.add(row, codes[row : row + height])
        pictures.append(thumbnail.shares()[1])
    assert all(np.array_equal(picture, pictures[0]) for picture in pictures)
    assert pictures[0][:370].max() == 0
    assert pictures[0][380:].mean() == pytest.approx(0.3, abs=0.01)


def test_a_small_scene_is_shown_pixel_by_pixel():
    """Nothing is averaged when the scene fits."""
    codes = np.array([[0, 1], [1, 0], [0, 0]], dtype=np.uint8)
    thumbnail = ClassThumbnail(codes.shape, (0, 1))
    thumbnail.add(0, codes)
    assert np.array_equal(thumbnail.shares()[1], codes)


def test_a_backdrop_is_the_mean_of_what_is_valid_in_windows_of_any_order():
    """Windows reach outside, overlap and hold gaps; where nothing valid came the mean is unknown."""
    values = np.add.outer(np.arange(1800), np.arange(2000)).astype(np.float32) / 100
    values[:300] = np.nan
    backdrop = Backdrop()
    at = grid(1800, 2000)
    for row in (1536, 0, 512, 1024):
        for col in range(-100, 2000, 500):
            window = Window(row, col, 512, 600)
            block = np.full(window.shape, np.nan, dtype=np.float32)
            inside = window.intersection(at.window)
            part = values[inside.row : inside.row_stop, inside.col : inside.col_stop]
            top, left = inside.row - row, inside.col - col
            block[top : top + inside.height, left : left + inside.width] = part
            backdrop.add(at, window, block)
    mean = backdrop.mean()
    assert np.isnan(mean[:100]).all()
    rows, cols = np.mgrid[100:600, 0:667]
    assert np.abs(mean[100:, :667] - (rows + cols + 2 / 3) * 3 / 100).max() < 0.05


def test_nothing_valid_gives_no_backdrop():
    """A scene of gaps has none, nor one that was never shown; a window outside adds nothing."""
    assert Backdrop().mean() is None
    backdrop = Backdrop()
    backdrop.add(grid(10, 10), Window(0, 0, 10, 10), np.full((10, 10), np.nan, dtype=np.float32))
    backdrop.add(grid(10, 10), Window(20, 0, 10, 10), np.ones((10, 10), dtype=np.float32))
    assert backdrop.mean() is None
