"""Interferograms that INT8 is calibrated on, and others that a precision is judged on."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from export.parity import ParityChips
from export.precision.figures import CALIBRATION_SEED, JUDGED_SEED, ChipSet, Figure, iou, ranking
from export.volcano_chips import CHIP_PX, DEEPCUBE, simulated
from tocsin.interferograms import LabelledPicture, chip_of, find_pictures
from tocsin.phase_pictures import read_picture
from tocsin.simulate import NumpyRandom, interferogram
from tocsin.volcano_inference import LEAST_COVERED

REAL_CALIBRATION: Final = 12
"""Pictures of each label, spread over the sorted names."""
REAL_JUDGED: Final = 48
"""At most, of each label, among the others."""

DEFORMATION: Final = Figure("AUROC over chips", ranking)
MASK: Final = Figure("IoU deforming, pooled over pixels", iou)


def calibration(data: Path | None, count: int = 24, size_px: int = CHIP_PX) -> Iterator[ParityChips]:
    """Yield chips one by one: simulated, every fourth with a third of it NaN, and pictures of DeepCube."""
    for seed in range(CALIBRATION_SEED, CALIBRATION_SEED + count):
        phase = simulated(seed, size_px)
        if seed % 4 == 0:
            phase[:, : size_px // 3] = np.nan
        yield ParityChips(f"simulated, seed {seed}", {"phase": phase[None, None]})
    for pictures in _pictures(data):
        for picture in _spread(pictures, REAL_CALIBRATION):
            yield _real(picture, size_px)


def judged(data: Path | None, count: int = 48, size_px: int = CHIP_PX) -> Iterator[ChipSet]:
    """Yield simulated interferograms with all their deformation known, and labelled pictures of DeepCube."""
    seeds = range(JUDGED_SEED, JUDGED_SEED + count)
    scenes = [interferogram(NumpyRandom(seed), (size_px, size_px)) for seed in seeds]
    yield ChipSet(
        f"simulated, seeds {seeds[0]} to {seeds[-1]}",
        [
            ParityChips(f"simulated, seed {seed}", {"phase": np.asarray(scene.wrapped_rad, np.float32)[None, None]})
            for seed, scene in zip(seeds, scenes, strict=True)
        ],
        [
            {
                "deformation": np.array([[scene.source_name != "none"]], np.float32),
                "mask": np.asarray(scene.mask, np.float32)[None, None],
            }
            for scene in scenes
        ],
        {"deformation": DEFORMATION, "mask": MASK},
    )
    chosen = [each for pictures in _pictures(data) for each in _others(pictures)]
    if chosen:
        truths = [{"deformation": np.array([[picture.label]], np.float32)} for picture in chosen]
        chips = [_real(picture, size_px) for picture in chosen]
        yield ChipSet("DeepCube", chips, truths, {"deformation": DEFORMATION})


def decided(batch: ParityChips) -> bool:
    """Return whether scoring would judge every chip of a batch that has any phase: it leaves sparse windows out."""
    measured = np.isfinite(batch.inputs["phase"]).mean(axis=(1, 2, 3))
    return bool((measured[measured > 0] >= LEAST_COVERED).all())


def _pictures(data: Path | None) -> tuple[list[LabelledPicture], ...]:
    """Return the pictures without deformation and with it, sorted by name; nothing where they are not at hand."""
    if data is None or not (data / DEEPCUBE).is_dir():
        return ()
    found = find_pictures(data / DEEPCUBE)
    return tuple([picture for picture in found if picture.label == label] for label in (0, 1))


def _others(pictures: Sequence[LabelledPicture]) -> list[LabelledPicture]:
    used = {picture.id for picture in _spread(pictures, REAL_CALIBRATION)}
    return _spread([picture for picture in pictures if picture.id not in used], REAL_JUDGED)


def _spread(pictures: Sequence[LabelledPicture], count: int) -> list[LabelledPicture]:
    places = np.linspace(0, len(pictures) - 1, min(len(pictures), count)).round()
    return [pictures[int(place)] for place in sorted(set(places))]


def _real(picture: LabelledPicture, size_px: int) -> ParityChips:
    return ParityChips(f"real, {picture.id}", {"phase": chip_of(read_picture(picture.path), size_px)[None, None]})
