"""Chips read once, run in any batch, blended into strips; the way back to the scene's own grid."""

from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS

from tocsin import inference
from tocsin.chips import dequantise, plan
from tocsin.errors import StorageFullError
from tocsin.grid import Grid, Window
from tocsin.inference import AsideProbability, Inference, ReturnToScene, SlidingRows, read_chips
from tocsin.runtimes.fake import FakeRuntime

CHIP = 32


def grid_of(height, width):
    """Grid of 10 m pixels in UTM."""
    return Grid(CRS.from_epsg(32630), Affine(10.0, 0.0, 5e5, 0.0, -10.0, 4e6), height, width)


class ArraySource:
    """A source in memory that counts how often each pixel is read."""

    def __init__(self, values):
        self.values = values
        self.grid = grid_of(*values.shape[1:])
        self.reads = np.zeros(values.shape[1:], int)

    def read(self, window):
        """The window, NaN outside."""
        out = np.full((len(self.values), window.height, window.width), np.nan, np.float32)
        inside = window.intersection(self.grid.window)
        if inside is not None:
            place = np.s_[inside.row : inside.row_stop, inside.col : inside.col_stop]
            self.reads[place] += 1
            row, col = inside.row - window.row, inside.col - window.col
            out[:, row : row + inside.height, col : col + inside.width] = self.values[:, *place]
        return out

    def close(self):
        """Nothing to close."""


def probabilities(height, width, seed=0, holes=0.1):
    """Source [2, height, width] whose band 0 is a probability, with holes common to both bands."""
    rng = np.random.default_rng(seed)
    values = rng.random((2, height, width)).astype(np.float32)
    values[:, rng.random((height, width)) < holes] = np.nan
    return ArraySource(values)


def strips_of(sources, overlap=8, batch=1, aoi=None, runtime=None):
    """Run the identity over sources and return the strips and the runtime."""
    windows = plan(sources[0].grid.shape, CHIP, overlap)
    runtime = runtime or FakeRuntime.identity()
    rows = tuple(SlidingRows(source, windows) for source in sources)
    stage = Inference(runtime, windows, len(sources), "s1", "water", batch)
    return list(stage.strips(stage.results(read_chips(rows, windows, aoi)))), runtime


def assembled(strips):
    """Probability [acquisition, height, width] of strips that must be gapless and ascending."""
    parts, at = [], 0
    for strip in strips:
        assert strip.row == at
        at += len(strip.probability)
        both = [strip.probability] if strip.pre_probability is None else [strip.probability, strip.pre_probability]
        parts.append(np.stack([dequantise(rows) for rows in both]))
    return np.concatenate(parts, axis=1)


@given(st.integers(1, 3 * CHIP + 7), st.integers(1, 3 * CHIP + 7), st.integers(0, CHIP - 1), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_identity_through_reader_and_runtime(height, width, overlap, seed):
    """The whole chain gives the scene back at every valid pixel and no data elsewhere, each pixel read once."""
    source = probabilities(height, width, seed)
    strips, _ = strips_of([source], overlap)
    np.testing.assert_allclose(assembled(strips)[0], source.values[0], rtol=0, atol=0.502e-4, equal_nan=True)
    assert (source.reads == 1).all()


def test_pieces_change_nothing(monkeypatch):
    """Reading in narrow pieces gives the same strips and tells of every pixel once."""
    source = probabilities(70, 90)
    whole, _ = strips_of([source])
    monkeypatch.setattr(inference, "PIECE_PX", 7 * CHIP)
    monkeypatch.setattr(inference, "FIRST_COLUMNS", 9)
    told = np.zeros((70, 90), int)
    windows = plan((70, 90), CHIP, 8)

    def tell(window, image):
        told[window.row : window.row_stop, window.col : window.col_stop] += 1
        np.testing.assert_array_equal(image, source.read(window))

    rows = SlidingRows(source, windows, tell)
    stage = Inference(FakeRuntime.identity(), windows, 1, "s1", "water")
    strips = list(stage.strips(stage.results(read_chips((rows,), windows))))
    np.testing.assert_array_equal(assembled(strips), assembled(whole))
    assert (told == 1).all()


@pytest.mark.parametrize("batch", [2, 3, 4, 64])
def test_batch_changes_nothing(batch):
    """Strips are the same bits for every batch size, empty windows and a pre-event scene included."""
    post, pre = probabilities(100, 120, 1), probabilities(100, 120, 2)
    post.values[:, 20:75, 30:100] = np.nan
    pre.values[:, :40] = np.nan
    single, runtime = strips_of([post, pre])
    batched, fewer = strips_of([post, pre], batch=batch)
    np.testing.assert_array_equal(assembled(batched), assembled(single))
    assert fewer.calls < runtime.calls


def test_windows_without_a_valid_pixel_are_not_run():
    """An empty scene costs no run and is no data everywhere."""
    source = probabilities(100, 50, holes=1.1)
    strips, runtime = strips_of([source])
    assert runtime.calls == 0
    assert np.isnan(assembled(strips)).all()
    assert assembled(strips).shape == (1, 100, 50)


def test_pre_runs_only_where_the_scene_is_valid():
    """The pre-event scene is scored on the windows of the scene and is no data where it has none itself."""
    post, pre = probabilities(CHIP, 3 * CHIP, 1, holes=0), probabilities(CHIP, 3 * CHIP, 2, holes=0)
    post.values[:, :, CHIP : 2 * CHIP] = np.nan
    pre.values[:, :, :CHIP] = np.nan
    strips, runtime = strips_of([post, pre], overlap=0)
    scored = assembled(strips)
    assert runtime.calls == 3
    np.testing.assert_array_equal(np.isnan(scored[1, 0]), np.arange(3 * CHIP) < 2 * CHIP)
    np.testing.assert_array_equal(np.isnan(scored[0, 0]), np.arange(3 * CHIP) // CHIP == 1)


def test_area_of_interest_saves_runs_and_keeps_values():
    """Inside the area of interest the result is the same bits as without one, with fewer runs."""
    source = probabilities(100, 120)
    area = ArraySource(np.zeros((1, 100, 120), np.float32))
    area.values[:, 5:20, 60:70] = 1
    everywhere, runtime = strips_of([source])
    inside, fewer = strips_of([source], aoi=area)
    np.testing.assert_array_equal(assembled(inside)[:, 5:20, 60:70], assembled(everywhere)[:, 5:20, 60:70])
    assert 0 < fewer.calls < runtime.calls


def test_progress_counts_every_window():
    """The progress is told once per window, also of those that are not run."""
    source = probabilities(100, 120, holes=1.1)
    windows = plan((100, 120), CHIP, 8)
    ticks = []
    stage = Inference(FakeRuntime.identity(), windows, 1, "s1", "water", on_chip=lambda: ticks.append(1))
    list(stage.results(read_chips((SlidingRows(source, windows),), windows)))
    assert len(ticks) == len(windows)


def test_aside_gives_back_what_was_written(tmp_path):
    """The working file is a source: any window, NaN outside and where nothing was scored; closing removes it."""
    stored = np.random.default_rng(0).integers(0, 10001, (20, 30)).astype(np.uint16)
    stored[3:5] = 65535
    with AsideProbability(tmp_path, grid_of(20, 30)) as aside:
        for row in range(0, 20, 6):
            aside.append(stored[row : row + 6])
        whole = aside.read(Window(-2, -3, 25, 40))
        np.testing.assert_array_equal(whole[0, 2:22, 3:33], dequantise(stored))
        assert np.isnan(whole[0, :2]).all()
        assert np.isnan(whole[0, :, 33:]).all()
        assert np.isnan(aside.read(Window(50, 50, 2, 2))).all()
        assert [path.name[:8] for path in tmp_path.iterdir()] == [".tocsin-"]
    assert list(tmp_path.iterdir()) == []
    aside.close()


def test_full_disk_says_so(tmp_path):
    """A working file that cannot grow is storage_full, and is removed all the same."""
    with AsideProbability(tmp_path, grid_of(2, 2)) as aside:
        aside._file.close()
        aside._file = Path("/dev/full").open("wb")  # noqa: SIM115 - closed by the source
        with pytest.raises(StorageFullError, match="room"):
            aside.append(np.zeros((2, 2), np.uint16))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("piece", [1, 100, 1 << 20])
def test_return_to_scene_masks_what_was_not_seen(tmp_path, monkeypatch, piece):
    """Back on the scene's grid, pixels without a valid value are no data whatever resampling said."""
    monkeypatch.setattr(inference, "PIECE_PX", piece)
    scene = probabilities(40, 50)
    strips, _ = strips_of([scene, probabilities(40, 50, 3, holes=0)])
    with AsideProbability(tmp_path, scene.grid) as post, AsideProbability(tmp_path, scene.grid) as pre:
        filled = ArraySource(np.full((1, 40, 50), 0.25, np.float32))
        back = assembled(ReturnToScene((post, pre), (filled, pre), scene).strips(strips))
    np.testing.assert_array_equal(np.isnan(back[0]), np.isnan(scene.values[0]))
    np.testing.assert_array_equal(back[0][~np.isnan(back[0])], np.float32(0.25))
    np.testing.assert_array_equal(back[1], assembled(strips)[1])
