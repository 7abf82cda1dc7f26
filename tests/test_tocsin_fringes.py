"""Colours of phase, and the map of an interferogram."""

import math

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS

from tocsin.fringes import STEPS, colour_of, cycle, draw_fringes
from tocsin.grid import Grid, Window
from tocsin.hazards.volcano import CLASSES, DEFORMING, NO_DATA, NOT_OBSERVABLE, STABLE
from tocsin.mapframe import ground, line, map_size
from tocsin.phase import wrap
from tocsin.thumbnail import CELLS, PhaseBackdrop

RED = {DEFORMING: (213, 43, 30)}
# Viénot, Brettel and Mollon (1999): what protanopes and deuteranopes see of linear sRGB.
DICHROMATS = {
    "protan": np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]]),
    "deutan": np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]]),
}


def grid(height, width):
    """Build a grid of square pixels."""
    return Grid(CRS.from_epsg(32631), Affine(100, 0, 7e5, 0, -100, 4e6), height, width)


def shares(shape, code=STABLE):
    """Shares of a picture that is all of one class."""
    return {one: np.full(shape, float(one == code), dtype=np.float32) for one in CLASSES}


def directions(phase):
    """Cosine and sine."""
    return np.stack([np.cos(phase), np.sin(phase)]).astype(np.float32)


def backdrop(phase, height=100):
    """Decimate a scene of phase strip by strip."""
    made, at = PhaseBackdrop(), grid(*phase.shape)
    for row in range(0, len(phase), height):
        part = phase[row : row + height]
        made.add(at, Window(row, 0, *part.shape), part)
    return made.mean()


def test_colours_run_in_a_cycle_without_a_seam():
    """The step from pi to -pi is as small as any other, and none stands still."""
    steps = np.linalg.norm(np.diff(cycle(), axis=0, append=cycle()[:1]), axis=1)
    assert steps.max() < 5 * np.median(steps)
    assert steps.min() > 0.3
    assert np.abs(colour_of(np.float32(math.pi)) - colour_of(np.float32(-math.pi))).max() < 3


@pytest.mark.parametrize("matrix", [np.eye(3), *DICHROMATS.values()], ids=["normal", *DICHROMATS])
def test_phases_an_eighth_of_a_fringe_apart_differ_to_every_eye(matrix):
    """In linear light as dichromats see it, no two such phases share a colour."""
    linear = (cycle() / 255.0) ** 2.2 @ matrix.T
    seen = np.clip(linear, 0, 1) ** (1 / 2.2)
    apart = np.linalg.norm(seen[:, None] - seen[None], axis=-1)
    turn = np.abs(np.subtract.outer(np.arange(STEPS), np.arange(STEPS)))
    far = np.minimum(turn, STEPS - turn) >= STEPS // 8
    assert apart[far].min() > 0.08


def test_phase_near_the_wrap_is_never_averaged_across_it():
    """Noise around pi stays around pi in the backdrop and dark in the map, where a mean would be light."""
    noise = np.random.default_rng(0).normal(0, 0.2, (2640, 1000)).astype(np.float32)
    phase = wrap(noise + np.float32(math.pi))
    phase[:300] = np.nan
    mean = backdrop(phase)
    assert max(mean.shape[1:]) <= CELLS
    assert np.isnan(mean[:, :100]).all()
    angle = np.arctan2(mean[1], mean[0])[100:]
    assert np.abs(wrap(angle - np.float32(math.pi))).max() < 0.5
    image = np.asarray(draw_fringes(shares(mean.shape[1:]), mean, map_size(grid(2640, 1000)), RED)).astype(int)
    dark = colour_of(np.float32(math.pi))
    assert np.abs(image[150:] - dark).mean() < 15
    assert (image[50] == 226).all()


def test_strips_never_change_a_backdrop_of_phase():
    """Directions are the same for any strips, and those of the pixels where the scene fits."""
    phase = np.random.default_rng(1).uniform(-3, 3, (300, 200)).astype(np.float32)
    whole = backdrop(phase, 300)
    assert np.array_equal(backdrop(phase, 7), whole)
    assert np.allclose(whole, directions(phase), atol=1e-6)


def test_a_ramp_has_as_many_fringes_in_the_picture_as_in_the_ground():
    """Five cycles across the scene cross the dark colour five times."""
    phase = wrap(np.tile(np.linspace(0, 10 * math.pi, 400, dtype=np.float32), (400, 1)))
    image = np.asarray(draw_fringes(shares((400, 400)), directions(phase), map_size(grid(400, 400)), RED))
    dark = image[400].astype(int).sum(axis=1) < 260
    assert np.count_nonzero(np.diff(dark.astype(int)) == 1) == 5


@pytest.mark.parametrize("code", [NO_DATA, NOT_OBSERVABLE])
def test_what_was_not_seen_is_hatched(code):
    """Both colours of the hatching and no fringe, so that it is never taken for stable."""
    phase = np.random.default_rng(0).uniform(-3, 3, (40, 40))
    image = np.asarray(draw_fringes(shares((40, 40), code), directions(phase), map_size(grid(40, 40)), RED))
    assert set(map(tuple, np.unique(image.reshape(-1, 3), axis=0).tolist())) == {ground(code), line(code)}


def test_detections_are_outlined_and_their_fringes_kept():
    """Red cased in white around the area, phase inside; no outline where the map ends."""
    cells = shares((86, 86))
    cells[DEFORMING][20:40, :40], cells[STABLE][20:40, :40] = 1, 0
    phase = np.zeros((86, 86))
    image = np.asarray(draw_fringes(cells, directions(phase), map_size(grid(86, 86)), RED))
    inside = np.rint(colour_of(np.float32(0)))
    assert np.abs(image[300, 200] - inside).max() <= 1
    assert np.abs(image[300, 0] - inside).max() <= 1
    assert (image[300, 399] == RED[DEFORMING]).all()
    assert (image[300, 397:403] == 255).all(axis=1).sum() == 2
    assert (image[199, 200] == RED[DEFORMING]).all()


def test_without_phase_the_map_is_plain():
    """Nothing is invented."""
    assert (np.asarray(draw_fringes(shares((9, 9)), None, map_size(grid(9, 9)), RED)) == 226).all()
