"""Interferograms that parity is measured on: simulated always, real pictures where the data sets are at hand.

Each case is there because a graph can fail on it alone: a batch frozen at its traced size, a NaN that spreads, one
measured pixel, the seam of the phase, values beyond it.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from export.parity import ParityChips
from tocsin.simulate import NumpyRandom, interferogram

FloatArray = npt.NDArray[np.float32]

CHIP_PX: Final = 224
DEEPCUBE: Final = Path("deepcube")
"""Pictures of DeepCube (Bountos et al. 2021) under a data folder."""

REAL_CHIPS: Final = 16
"""At most; spread evenly over the sorted names."""

BATCHES: Final = (1, 3, 8)
"""Batches of simulated cases; none is the one that the graph was traced with."""


def volcano_chips(data: Path | None, seed: int = 30_000_000, size_px: int = CHIP_PX) -> Iterator[ParityChips]:
    """Yield batches of wrapped phase in rad under the input name `phase`.

    Parameters
    ----------
    data
        Folder of the data sets (TOCSIN_DATA), or None: simulated chips only.
    seed
        Of the simulated chips.
    size_px
        Rows and columns of a chip.
    """
    for batch in BATCHES:
        yield _case(
            f"simulated, batch of {batch}", [simulated(seed + 10 * batch + one, size_px) for one in range(batch)]
        )
    chip = simulated(seed, size_px)
    for name, changed in _altered(chip, seed):
        yield _case(name, [changed])
    yield _case("nothing but NaN beside a valid chip", [np.full_like(chip, np.nan), chip])
    if data is not None:
        yield from _real(data, size_px)


def simulated(seed: int, size_px: int) -> FloatArray:
    """Return the wrapped phase of one simulated interferogram [size, size], rad, float32."""
    return np.asarray(interferogram(NumpyRandom(seed), (size_px, size_px)).wrapped_rad, dtype=np.float32)


def _altered(chip: FloatArray, seed: int) -> Iterator[tuple[str, FloatArray]]:
    rows, cols = chip.shape
    random = np.random.default_rng(seed)
    half = chip.copy()
    half[:, : cols // 2] = np.nan
    yield "simulated, half of it NaN", half
    holes = chip.copy()
    holes[random.random(chip.shape) < 0.3] = np.nan
    yield "simulated, holes of NaN", holes
    single = np.full_like(chip, np.nan)
    single[rows // 3, cols // 4] = 1.0
    yield "one measured pixel", single
    yield "nothing but NaN", np.full_like(chip, np.nan)
    yield "zero phase", np.zeros_like(chip)
    seam = np.where(random.random(chip.shape) < 0.5, np.float32(math.pi), np.float32(-math.pi))
    yield "phase of pi and -pi", seam.astype(np.float32)
    turns = random.integers(-8, 9, chip.shape)
    yield "simulated, up to eight turns added", (chip + 2 * math.pi * turns).astype(np.float32)
    infinite = chip.copy()
    infinite[random.random(chip.shape) < 0.05] = np.inf
    yield "simulated, infinite values", infinite


def _real(data: Path, size_px: int) -> Iterator[ParityChips]:
    from tocsin.interferograms import chip_of, find_pictures
    from tocsin.phase_pictures import read_picture

    folder = data / DEEPCUBE
    pictures = find_pictures(folder) if folder.is_dir() else ()
    for index in sorted({round(place) for place in np.linspace(0, len(pictures) - 1, min(len(pictures), REAL_CHIPS))}):
        picture = read_picture(pictures[index].path)
        yield _case(f"real, {pictures[index].id}", [chip_of(picture, size_px)])


def _case(case: str, chips: list[FloatArray]) -> ParityChips:
    return ParityChips(case, {"phase": np.stack(chips)[:, None]})
