"""Unlabelled phase: DeepCube, LiCSAR series and frames, Hephaestus, simulated interferograms.

Each reader yields `UnlabelledChip` with the band ``phase`` in rad, (-pi, pi], NaN where missing; labels stay behind.
The place is the volcano or the frame, the unit by which data are split.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tocsin.errors import UsageError
from tocsin.hazards.volcano import CHIP
from tocsin.interferograms import Taken, chip_of
from tocsin.phase_pictures import read_picture
from tocsin.series import read_series
from training.datasets.deepcube import DeepCube, Subset
from training.datasets.hephaestus import PICTURES, Hephaestus, read_annotation
from training.datasets.licsar import LicsarFrame
from training.datasets.simulated_interferograms import Draw, SimulatedInterferograms
from training.datasets.unlabelled import UnlabelledChip


def deepcube(folder: Path, subset: Subset = "S1") -> Iterator[UnlabelledChip]:
    """Yield every picture of a subset as the volcano model is given it."""
    for each in DeepCube(folder, subset).chips():
        yield _chip(f"{subset}/{each.name}", each.taken, chip_of(each.picture, CHIP))


def licsar_series(folder: Path) -> Iterator[UnlabelledChip]:
    """Yield the wrapped phase of every epoch of every series but the first, whose other day is unknown; with heights.

    Raises
    ------
    UsageError
        When there is no series.
    """
    paths = sorted(folder.glob("*.npz"))
    if not paths:
        raise UsageError(f"{folder}, which holds no .npz", "LiCSAR series", "pass the folder of the series")
    for path in paths:
        series = read_series(path)
        for epoch in range(1, len(series.dates)):
            layers = {"phase": series.phase(epoch), "height": series.dem_m}
            yield UnlabelledChip(f"{path.stem}_{series.dates[epoch]}", path.stem, layers)


def licsar_frames(folder: Path) -> Iterator[UnlabelledChip]:
    """Yield every interferogram of a LiCSAR frame, with coherence where there is one."""
    frame = LicsarFrame(folder)
    for each in frame.interferograms():
        layers = {"phase": each.phase}
        if each.coherence is not None:
            layers["coherence"] = each.coherence
        yield UnlabelledChip(f"{frame.frame}_{each.taken.start}_{each.taken.end}", frame.frame or folder.name, layers)


def hephaestus(folder: Path) -> Iterator[UnlabelledChip]:
    """Yield every picture of ``Hephaestus_Raw``, annotated or not; those annotated as unusable are left out.

    Parameters
    ----------
    folder
        Holds ``Hephaestus_Raw/FRAME/interferograms/DAY_DAY/PICTURE``, and ``annotations`` where they were unpacked.

    Raises
    ------
    UsageError
        When there is no picture.
    """
    raw, annotations = folder / "Hephaestus_Raw", folder / "annotations"
    found = False
    unusable = _unusable(annotations, raw)
    for pair in sorted(raw.glob("*/interferograms/*")):
        frame = pair.parent.parent.name
        if (frame, pair.name) in unusable:
            continue
        path = next((path for name in PICTURES if (path := pair / name.format(pair=pair.name)).is_file()), None)
        if path is not None:
            found = True
            picture = read_picture(path)
            yield UnlabelledChip(f"{frame}_{pair.name}", frame, {"phase": picture.noisy_phase})
    if not found:
        raise UsageError(
            f"{folder} without a picture of an interferogram",
            "Hephaestus_Raw/FRAME/interferograms/DAY_DAY/DAY_DAY.geo.diff.png",
            "pass the folder that Hephaestus_Raw was unpacked in",
        )


def simulated_interferograms(draw: Draw, cache: Path | None) -> Iterator[UnlabelledChip]:
    """Yield simulated interferograms; what they show is known and not told."""
    pool = SimulatedInterferograms(draw, cache)
    for index in range(len(pool)):
        name = f"simulated_{draw.first_seed + index}"
        yield UnlabelledChip(name, name, {"phase": pool[index].phase})


def _chip(name: str, taken: Taken, phase: NDArray[np.float32]) -> UnlabelledChip:
    return UnlabelledChip(name, taken.place or taken.frame or name, {"phase": phase})


def _unusable(annotations: Path, raw: Path) -> set[tuple[str, str]]:
    """Return frame and pair of what an annotator could not judge."""
    if not annotations.is_dir():
        return set()
    names = Hephaestus(annotations, raw).names()
    said = [read_annotation(annotations / f"{name}.json") for name in names]
    return {(each.frame, each.pair) for each in said if not each.usable}
