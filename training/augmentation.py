"""Augmentation of backscatter chips by what sensors, processors and floods do.

Turns and mirrors (look direction changes with the pass, so this is an approximation in relief), calibration offsets, a
lost band, holes; and floods laid into real scenes: real land, real speckle, simulated water with a known outline.
"""

from dataclasses import replace

import numpy as np

from training.datasets import IGNORE, LabelledChip
from training.recipe import Augmentation


def crop(chip: LabelledChip, size_px: int, random: np.random.Generator) -> LabelledChip:
    """Cut a random square; what reaches beyond a smaller chip is NaN and not judged.

    Parameters
    ----------
    chip
        The whole chip.
    size_px
        Rows and columns of the result.
    random
        Where to draw from.
    """
    missing = [max(0, size_px - length) for length in chip.label.shape]
    s1_db = np.pad(chip.s1_db, ((0, 0), (0, missing[0]), (0, missing[1])), constant_values=np.nan)
    label = np.pad(chip.label, ((0, missing[0]), (0, missing[1])), constant_values=IGNORE)
    row, col = (int(random.integers(0, length - size_px + 1)) for length in label.shape)
    window = np.s_[row : row + size_px, col : col + size_px]
    return replace(chip, s1_db=s1_db[:, *window], label=label[window])


def lay_flood(chip: LabelledChip, flood: LabelledChip) -> LabelledChip:
    """Lay the water of a simulated chip over a real one of the same size; everything else stays real."""
    water = (flood.label == 1) & np.isfinite(flood.s1_db).all(axis=0)
    label = np.where(water, np.int16(1), chip.label)
    return replace(chip, s1_db=np.where(water, flood.s1_db, chip.s1_db), label=label)


def augment(chip: LabelledChip, settings: Augmentation, random: np.random.Generator) -> LabelledChip:
    """Return the chip as another pass, processor or mishap would have given it.

    Parameters
    ----------
    chip
        [2, H, H] chip, square.
    settings
        What may happen, and how often.
    random
        Where to draw from.
    """
    turns, mirrored = int(random.integers(4)), bool(random.integers(2))
    s1_db, label = np.rot90(chip.s1_db, turns, (1, 2)), np.rot90(chip.label, turns)
    if mirrored:
        s1_db, label = s1_db[:, ::-1], label[::-1]
    common = random.normal(0, settings.offset_db)
    offset = common + random.normal(0, settings.band_offset_db, (2, 1, 1))
    s1_db = s1_db + offset.astype(np.float32)
    if random.random() < settings.lost_band_share:
        s1_db[random.integers(2)] = np.nan
    if random.random() < settings.hole_share:
        rows, cols = _slice(label.shape[0], random), _slice(label.shape[1], random)
        s1_db[:, rows, cols] = np.nan
    label = np.where(np.isfinite(s1_db).any(axis=0), label, np.int16(IGNORE))
    return replace(chip, s1_db=np.ascontiguousarray(s1_db, dtype=np.float32), label=np.ascontiguousarray(label))


def _slice(length: int, random: np.random.Generator) -> slice:
    """Return a random slice of at most half of a length."""
    size = int(random.integers(1, length // 2 + 1))
    start = int(random.integers(0, length - size + 1))
    return slice(start, start + size)
