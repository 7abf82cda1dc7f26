"""Landslide pairs to learn from: simulated ones, and scars in real bursts; chip ``index`` is that of its seed."""

import hashlib
import math
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tocsin.hazards.landslide import ACQUISITIONS, CHIP, GSD_M
from tocsin.simulate import LandslideSettings, NumpyRandom, landslide_pair
from training.datasets.burst_chips import (
    LARGE_M2,
    BurstChips,
    LandslideChip,
    heads_within,
    injected,
    place_of,
    read_bursts,
)
from training.datasets.relief import ReliefTiles

CHUNK: Final = 16
STEP_DB: Final = 0.2
LEAST_DB: Final = -38.0
"""Backscatter is kept in bytes: steps of a fifteenth of the speckle of a look."""
STEP_M: Final = 0.1
VOID: Final = np.iinfo(np.uint16).max
LARGE_SHARE: Final = 0.2
"""Share of simulated scenes with a large scar, of which the chip may show a part."""
LARGE_PX: Final = 224


@dataclass(frozen=True)
class Draw:
    """What decides a set of pairs.

    Attributes
    ----------
    count
        Number of chips.
    first_seed
        Seed of the first; give sets that must not overlap seeds far apart.
    srtm3, tiles
        Folder of SRTM3 tiles and which of them to take; None: all relief is simulated.
    relief_share
        Share of simulated scenes on these tiles.
    opera_rtc, bursts
        Folder of real bursts and which of them to take; None: all chips are simulated.
    injected_share
        Share of chips from these bursts.
    landslide_share
        Share of chips with landslides, about.
    """

    count: int
    first_seed: int
    srtm3: Path | None = None
    tiles: tuple[str, ...] = ()
    relief_share: float = 0.5
    opera_rtc: Path | None = None
    bursts: tuple[str, ...] = ()
    injected_share: float = 0.0
    landslide_share: float = 0.5


class LandslidePairs:
    """A fixed number of chips, drawn once, kept in bytes and read from disk as they are asked for.

    Parameters
    ----------
    draw
        How many, from which seed, on which relief and bursts.
    cache_folder
        Folder to keep the chips in between runs; drawn anew when absent or of another draw.
    """

    def __init__(self, draw: Draw, cache_folder: Path) -> None:
        # Places of the data are left out: the same tiles elsewhere give the same chips.
        told = {**asdict(draw), "srtm3": draw.srtm3 is not None, "opera_rtc": draw.opera_rtc is not None}
        key = hashlib.sha256(repr(sorted(told.items())).encode()).hexdigest()[:12]
        folder = cache_folder / f"landslides-{draw.first_seed}-{draw.count}-{key}"
        if not folder.is_dir():
            _draw_all(draw, folder)
        self._bytes, self._height, self._mask, self._heads, self._injected = (
            np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _KEPT
        )

    def __len__(self) -> int:
        return len(self._heads)

    def __getitem__(self, index: int) -> LandslideChip:
        backscatter_db = _unpacked(self._bytes[index])
        stored = self._height[index]
        dem = np.where(stored == VOID, np.nan, stored * np.float32(STEP_M)).astype(np.float32)
        mask = np.unpackbits(self._mask[index], count=CHIP * CHIP).reshape(CHIP, CHIP).astype(np.bool_)
        sides = backscatter_db[:ACQUISITIONS], backscatter_db[ACQUISITIONS:]
        return LandslideChip(*sides, dem, mask, int(self._heads[index]))

    def all(self) -> list[LandslideChip]:
        """Return every chip."""
        return [self[index] for index in range(len(self))]

    @property
    def heads(self) -> NDArray[np.int16]:
        """Landslides of every chip."""
        return np.asarray(self._heads)

    @property
    def is_injected(self) -> NDArray[np.bool_]:
        """Whether each chip is of a real burst."""
        return np.asarray(self._injected)


_KEPT: Final = ("backscatter", "height", "mask", "heads", "injected")


def _draw_all(draw: Draw, folder: Path) -> None:
    """Draw all chips, on every core, into a folder that appears whole or not at all."""
    aside = folder.with_name(f".{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    shape = (draw.count, 2 * ACQUISITIONS, 2, CHIP, CHIP)
    backscatter = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
        aside / "backscatter.npy", mode="w+", dtype=np.uint8, shape=shape
    )
    height = np.empty((draw.count, CHIP, CHIP), np.uint16)
    mask = np.empty((draw.count, CHIP * CHIP // 8), np.uint8)
    heads, real = np.empty(draw.count, np.int16), np.empty(draw.count, np.bool_)
    with ProcessPoolExecutor() as pool:
        seeds = range(draw.first_seed, draw.first_seed + draw.count)
        for index, drawn in enumerate(pool.map(partial(_one, draw=draw), seeds, chunksize=CHUNK)):
            backscatter[index], height[index], mask[index], heads[index], real[index] = drawn
    backscatter.flush()
    for name, values in (("height", height), ("mask", mask), ("heads", heads), ("injected", real)):
        np.save(aside / f"{name}.npy", values)
    aside.replace(folder)


Packed = tuple[NDArray[np.uint8], NDArray[np.uint16], NDArray[np.uint8], int, bool]


def _one(seed: int, draw: Draw) -> Packed:
    """Draw one chip."""
    random = np.random.default_rng((seed, 1))
    real = draw.opera_rtc is not None and random.random() < draw.injected_share
    if real:
        chip = _bursts(draw.opera_rtc, draw.bursts, draw.srtm3, draw.tiles).draw(
            seed, injected(random, draw.landslide_share)
        )
    else:
        chip = _simulated(seed, draw, random)
    both = np.concatenate([chip.pre_db, chip.post_db])
    void = np.isnan(chip.dem)
    low = 0.0 if void.all() else float(np.nanmin(chip.dem))
    steps = np.clip(np.rint((np.where(void, low, chip.dem) - low) / STEP_M), 0, VOID - 1)
    height = np.where(void, VOID, steps).astype(np.uint16)
    return _packed(both), height, np.packbits(chip.mask), chip.heads, real


def _simulated(seed: int, draw: Draw, random: np.random.Generator) -> LandslideChip:
    """Simulate one chip with three acquisitions on each side; training leaves some out."""
    large = random.random() < LARGE_SHARE * draw.landslide_share / 0.5
    size = LARGE_PX if large else CHIP
    dem = None
    if draw.srtm3 is not None and random.random() < draw.relief_share:
        dem = _tiles(draw.srtm3, draw.tiles).crop(random, GSD_M, size)
    settings = LandslideSettings(acquisitions=(ACQUISITIONS, ACQUISITIONS), landslide_share=draw.landslide_share)
    if large:
        settings = settings.model_copy(
            update={
                "landslide_share": 1.0,
                "large_share": 1.0,
                "large_m2": LARGE_M2,
                "density_per_km2": (0.3, 15.0),
                "contrast": float(random.uniform(0.8, 1.4)),
            }
        )
    scene = landslide_pair(NumpyRandom(seed), (size, size), settings, dem)
    mask = np.asarray(scene.mask)
    start = place_of(mask, random, around=large)
    cut = (..., slice(start[0], start[0] + CHIP), slice(start[1], start[1] + CHIP))
    return LandslideChip(
        np.asarray(scene.pre_db)[cut],
        np.asarray(scene.post_db)[cut],
        np.asarray(scene.dem, dtype=np.float32)[cut],
        mask[cut],
        heads_within(np.asarray(scene.heads), start),
    )


@cache
def _tiles(folder: Path, names: tuple[str, ...]) -> ReliefTiles:
    return ReliefTiles(folder, names)


@cache
def _bursts(folder: Path, names: tuple[str, ...], srtm3: Path | None, tiles: tuple[str, ...]) -> BurstChips:
    return BurstChips(read_bursts(folder, names), None if srtm3 is None else _tiles(srtm3, tiles))


def _packed(backscatter_db: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return backscatter as bytes: 0 missing, 1 to 255 from the least value on."""
    known = np.isfinite(backscatter_db)
    steps = np.rint((np.where(known, backscatter_db, 0) - LEAST_DB) / STEP_DB)
    return np.where(known, 1 + np.clip(steps, 0, 254), 0).astype(np.uint8)


def _unpacked(stored: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return bytes as backscatter, float32, dB."""
    values = LEAST_DB + STEP_DB * (np.arange(256, dtype=np.float32) - 1)
    values[0] = math.nan
    return values.astype(np.float32)[stored]
