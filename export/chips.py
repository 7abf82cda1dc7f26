"""Chips that parity is measured on: simulated always, real ones where the data sets are at hand.

Each case is there because a graph can fail on it alone: free axes frozen at their traced size, a NaN that spreads, a
band that is missing, values that leave the range of the training data.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from export.parity import ParityChips
from tocsin.simulate import FloodSettings, NumpyRandom, flood_scene

FloatArray = npt.NDArray[np.float32]

HAND_LABELLED: Final = Path("sen1floods11/v1.1/data/flood_events/HandLabeled/S1Hand")
"""Chips of Sen1Floods11 (Bonafilia et al. 2020) under a data folder, in the layout of its public bucket."""

REAL_CHIPS: Final = 16
"""At most; spread evenly over the sorted names, which start with the event."""

SHAPES: Final = ((1, 32, 32), (3, 64, 160), (2, 256, 96), (4, 256, 256), (1, 512, 512))
"""Batch, height, width of simulated cases; none is the shape that the graph was traced with."""


def flood_chips(data: Path | None, seed: int = 20_000_000) -> Iterator[ParityChips]:
    """Yield batches of VV and VH backscatter in dB under the input name `s1`.

    Parameters
    ----------
    data
        Folder of the data sets (TOCSIN_DATA), or None: simulated chips only.
    seed
        Of the simulated chips.
    """
    for number, (batch, height, width) in enumerate(SHAPES):
        chips = np.stack([simulated(seed + 10 * number + one, (height, width)) for one in range(batch)])
        yield _case(f"simulated, {batch} x {height} x {width}", chips)
    chip = simulated(seed + 100, (256, 256))
    yield _case("simulated, holes of NaN", with_holes(chip, seed)[None])
    for band, name in enumerate(("VV", "VH")):
        missing = chip.copy()
        missing[band] = np.nan
        yield _case(f"simulated, {name} missing", missing[None])
    yield _case("nothing but NaN beside a valid chip", np.stack([np.full_like(chip, np.nan), chip]))
    yield _case("values out of range: infinite, -9999, -60 to 37 dB", with_extremes(chip, seed)[None])
    if data is not None:
        yield from _real(data)


def simulated(seed: int, shape: tuple[int, int]) -> FloatArray:
    """Return one simulated chip [2, H, W], VV and VH, dB, float32."""
    scene = flood_scene(NumpyRandom(seed), shape, FloodSettings(pre_event=False))
    return np.asarray(scene.post_db, dtype=np.float32)


def with_holes(chip: FloatArray, seed: int) -> FloatArray:
    """Return [2, H, W] with a swath edge, a block and single pixels gone, not the same ones in both bands."""
    holed = chip.copy()
    _, rows, cols = chip.shape
    slanted = np.arange(cols) + np.arange(rows)[:, None] // 4
    holed[:, slanted < cols // 5] = np.nan
    holed[0, rows // 2 : rows // 2 + 40, cols // 2 :] = np.nan
    holed[np.random.default_rng(seed).random(chip.shape) < 0.02] = np.nan
    return holed


def with_extremes(chip: FloatArray, seed: int) -> FloatArray:
    """Return [2, H, W] with values that are no measurement, and the rarest that are."""
    extreme = chip.copy()
    values = np.array([np.inf, -np.inf, -9999.0, 1e30, -60.4, 36.8], dtype=np.float32)
    places = np.random.default_rng(seed).random(chip.shape) < 0.05
    extreme[places] = np.resize(values, np.count_nonzero(places))
    return extreme


def _real(data: Path) -> Iterator[ParityChips]:
    from tocsin.grid import Window
    from tocsin.raster import open_backscatter

    paths = sorted((data / HAND_LABELLED).glob("*_S1Hand.tif"))
    for index in sorted({round(place) for place in np.linspace(0, len(paths) - 1, min(len(paths), REAL_CHIPS))}):
        with open_backscatter(str(paths[index]), "db") as source:
            height, width = source.grid.shape
            chip = source.read(Window(0, 0, height // 32 * 32, width // 32 * 32))
        yield _case(f"real, {paths[index].stem.removesuffix('_S1Hand')}", np.asarray(chip, dtype=np.float32)[None])


def _case(case: str, chips: FloatArray) -> ParityChips:
    return ParityChips(case, {"s1": chips})
