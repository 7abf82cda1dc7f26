"""Flood chips that INT8 is calibrated on, and others that a precision is judged on."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from export.chips import HAND_LABELLED, simulated, with_holes
from export.parity import ParityChips
from export.precision.figures import CALIBRATION_SEED, JUDGED_SEED, ChipSet, Figure, iou
from tocsin.simulate import FloodSettings, NumpyRandom, flood_scene
from training.datasets import Sen1Floods11
from training.datasets.chip import IGNORE
from training.datasets.terramesh import TerraMeshSites

TERRAMESH: Final = Path("terramesh_sites")
WATER: Final = {"water": Figure("IoU water, pooled over pixels", iou)}


def calibration(data: Path | None, count: int = 24, size_px: int = 256) -> Iterator[ParityChips]:
    """Yield chips one by one: simulated, every fourth with holes of NaN, and the sites of TerraMesh."""
    for seed in range(CALIBRATION_SEED, CALIBRATION_SEED + count):
        chip = simulated(seed, (size_px, size_px))
        yield ParityChips(f"simulated, seed {seed}", {"s1": (chip if seed % 4 else with_holes(chip, seed))[None]})
    if data is not None and (data / TERRAMESH).is_dir():
        for site in TerraMeshSites(data / TERRAMESH).chips():
            rows, cols = (size // 32 * 32 for size in site.s1_db.shape[1:])
            yield ParityChips(f"real, {site.event}", {"s1": site.s1_db[None, :, :rows, :cols]})


def judged(data: Path | None, count: int = 16, size_px: int = 512) -> Iterator[ChipSet]:
    """Yield simulated scenes with all their water known, and the hand-labelled chips of Sen1Floods11."""
    seeds = range(JUDGED_SEED, JUDGED_SEED + count)
    scenes = [flood_scene(NumpyRandom(seed), (size_px, size_px), FloodSettings(pre_event=False)) for seed in seeds]
    yield ChipSet(
        f"simulated, seeds {seeds[0]} to {seeds[-1]}",
        [
            ParityChips(f"simulated, seed {seed}", {"s1": np.asarray(scene.post_db, dtype=np.float32)[None]})
            for seed, scene in zip(seeds, scenes, strict=True)
        ],
        [{"water": np.asarray(scene.water, dtype=np.float32)[None, None]} for scene in scenes],
        WATER,
    )
    if data is None or not (data / HAND_LABELLED).is_dir():
        return
    folder = Sen1Floods11((data / HAND_LABELLED).parent)
    chips, truths = [], []
    for name in folder.names():
        chip = folder.read(name)
        rows, cols = (size // 32 * 32 for size in chip.label.shape)
        label = np.where(chip.label == IGNORE, np.nan, chip.label).astype(np.float32)
        chips.append(ParityChips(f"real, {name}", {"s1": chip.s1_db[None, :, :rows, :cols]}))
        truths.append({"water": label[None, None, :rows, :cols]})
    yield ChipSet("Sen1Floods11 hand-labelled", chips, truths, WATER)
