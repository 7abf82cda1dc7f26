"""Simulated interferograms to learn from: sample ``index`` is the scene of seed ``first_seed + index``."""

import math
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tocsin.hazards.volcano import CHIP
from tocsin.simulate import SOURCES, InterferogramSettings, NumpyRandom, interferogram
from tocsin.simulate.interferogram_settings import PIXEL_M
from training.datasets.relief import ReliefTiles

CHUNK: Final = 16
STEPS: Final = 254
"""Steps of a turn that phase is kept in: 0.025 rad, a tenth of the least noise."""


@dataclass(frozen=True)
class Draw:
    """What decides a simulated data set.

    Attributes
    ----------
    count
        Number of scenes.
    first_seed
        Seed of the first; give data sets that must not overlap seeds far apart.
    relief
        Folder of SRTM3 tiles; None: all relief is simulated.
    relief_share
        Share of scenes on real relief.
    """

    count: int
    first_seed: int
    relief: Path | None = None
    relief_share: float = 0.4


@dataclass(frozen=True)
class SimulatedChip:
    """One simulated chip.

    Attributes
    ----------
    phase
        float32 [224, 224], rad, NaN where missing.
    mask
        bool [224, 224], where the ground deforms.
    source
        Index in `tocsin.simulate.SOURCES`; -1 without deformation.
    hard_negative
        Whether it shows delay around a cone that looks like a source.
    """

    phase: NDArray[np.float32]
    mask: NDArray[np.bool_]
    source: int
    hard_negative: bool


class SimulatedInterferograms:
    """A fixed number of simulated scenes, drawn once, phase kept in bytes.

    Parameters
    ----------
    draw
        How many, from which seed, on which relief.
    cache_folder
        Folder to keep the scenes in between runs; drawn anew when absent or of another draw.
    """

    def __init__(self, draw: Draw, cache_folder: Path | None = None) -> None:
        name = f"interferograms-{draw.first_seed}-{draw.count}-{draw.relief_share if draw.relief else 0:g}.npz"
        file = None if cache_folder is None else cache_folder / name
        if file is not None and file.is_file():
            with np.load(file, allow_pickle=False) as kept:
                arrays = kept["phase"], kept["mask"], kept["source"], kept["hard"]
        else:
            arrays = _draw_all(draw)
            if file is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
                np.savez(file, phase=arrays[0], mask=arrays[1], source=arrays[2], hard=arrays[3])
        self._phase, self._mask, self._source, self._hard = arrays

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> SimulatedChip:
        mask = np.unpackbits(self._mask[index], count=CHIP * CHIP).reshape(CHIP, CHIP).astype(np.bool_)
        return SimulatedChip(_unpacked(self._phase[index]), mask, int(self._source[index]), bool(self._hard[index]))


Arrays = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.int8], NDArray[np.bool_]]


def _draw_all(draw: Draw) -> Arrays:
    """Simulate all scenes, on every core."""
    seeds = range(draw.first_seed, draw.first_seed + draw.count)
    one = partial(_one, relief=draw.relief, relief_share=draw.relief_share)
    phase = np.empty((draw.count, CHIP, CHIP), np.uint8)
    mask = np.empty((draw.count, CHIP * CHIP // 8), np.uint8)
    source, hard = np.empty(draw.count, np.int8), np.empty(draw.count, np.bool_)
    with ProcessPoolExecutor() as pool:
        for index, scene in enumerate(pool.map(one, seeds, chunksize=CHUNK)):
            phase[index], mask[index], source[index], hard[index] = scene
    return phase, mask, source, hard


def _one(seed: int, relief: Path | None, relief_share: float) -> tuple[NDArray[np.uint8], NDArray[np.uint8], int, bool]:
    """Simulate one scene, on real relief at times."""
    random = np.random.default_rng((seed, 1))
    settings, dem = InterferogramSettings(), None
    if relief is not None and random.random() < relief_share:
        pixel_m = math.exp(random.uniform(math.log(PIXEL_M[0]), math.log(PIXEL_M[1])))
        dem = _tiles(relief).crop(random, pixel_m, CHIP)
        settings = settings if dem is None else InterferogramSettings(pixel_m=(pixel_m, pixel_m))
    scene = interferogram(NumpyRandom(seed), (CHIP, CHIP), settings, dem)
    source = -1 if scene.source_name == "none" else SOURCES.index(scene.source_name)
    return _packed(scene.wrapped_rad), np.packbits(np.asarray(scene.mask)), source, scene.hard_negative


@cache
def _tiles(folder: Path) -> ReliefTiles:
    return ReliefTiles(folder)


def _packed(phase: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return phase as bytes: 0 missing, 1 to 255 from -pi to pi."""
    known = np.isfinite(phase)
    steps = np.rint((np.where(known, phase, 0) + math.pi) / (2 * math.pi) * STEPS)
    return np.where(known, 1 + np.clip(steps, 0, STEPS), 0).astype(np.uint8)


def _unpacked(stored: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return bytes as phase, float32, rad."""
    values = (np.arange(256, dtype=np.float32) - 1) / STEPS * np.float32(2 * math.pi) - np.float32(math.pi)
    values[0] = np.nan
    return values[stored]
