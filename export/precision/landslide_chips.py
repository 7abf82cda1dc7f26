"""Landslide chips that INT8 is calibrated on, and others that a precision is judged on."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from export.landslide_chips import landslide_chips, simulated, three
from export.parity import ParityChips
from export.precision.figures import CALIBRATION_SEED, JUDGED_SEED, ChipSet, Figure, ranking
from tocsin.hazards.landslide import CHIP
from tocsin.simulate import NumpyRandom, landslide_pair


def calibration(data: Path | None, count: int = 32, size_px: int = CHIP) -> Iterator[ParityChips]:
    """Yield simulated chips one by one, every fourth without heights, and hard cases of other chips than those judged.

    The few real bursts are kept to judge on.
    """
    del data
    first = CALIBRATION_SEED + count
    for chips in landslide_chips(None, first, size_px):
        yield ParityChips(f"{chips.case}, seeds from {first}", chips.inputs)
    for seed in range(CALIBRATION_SEED, CALIBRATION_SEED + count):
        chip = dict(simulated(seed, size_px))
        if seed % 4 == 0:
            chip["dem"] = np.full_like(chip["dem"], np.nan)
        yield ParityChips(f"simulated, seed {seed}", {name: values[None] for name, values in chip.items()})


def judged(data: Path | None, count: int = 144, size_px: int = CHIP) -> Iterator[ChipSet]:
    """Yield simulated pairs with all their landslides known, and chips of real backscatter, of which nothing is."""
    seeds = range(JUDGED_SEED, JUDGED_SEED + count)
    pairs = [landslide_pair(NumpyRandom(seed), (size_px, size_px)) for seed in seeds]
    yield ChipSet(
        f"simulated, seeds {seeds[0]} to {seeds[-1]}",
        [
            ParityChips(
                f"simulated, seed {seed}",
                {"pre": three(pair.pre_db)[None], "post": three(pair.post_db)[None], "dem": pair.dem[None, None]},
            )
            for seed, pair in zip(seeds, pairs, strict=True)
        ],
        [{"mask": np.asarray(pair.mask, np.float32)[None, None]} for pair in pairs],
        {"mask": Figure("AUROC over pixels", ranking)},
    )
    if data is not None:
        real = [chip for chip in landslide_chips(data, size_px=size_px) if chip.case.startswith("real")]
        if real:
            yield ChipSet("OPERA RTC-S1", real)
