"""Real interferograms of every data set at hand, as chips: to adapt to without labels, and to be judged on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tocsin.hazards.volcano import CHIP
from tocsin.interferograms import Taken, chip_of, disjoint_groups, top_left
from tocsin.phase_pictures import Rendering
from tocsin.series import read_series
from training.datasets.deepcube import DeepCube, Subset

SUBSETS: Final[tuple[Subset, ...]] = ("C1", "S1")


@dataclass(frozen=True)
class RealPicture:
    """One real interferogram with what a person saw in it.

    Attributes
    ----------
    name
        Data set and path inside it.
    subset
        C1 or S1.
    phase
        float32 [224, 224], rad, NaN where missing: what a model is given.
    label
        1 with deformation, 0 without; never learnt from.
    taken
        Volcano, frame and days.
    rendering
        How the picture is drawn.
    incoherent
        Share of drawn pixels without a clear phase, 0..1.
    """

    name: str
    subset: Subset
    phase: NDArray[np.float32]
    label: int
    taken: Taken
    rendering: Rendering
    incoherent: float


@dataclass(frozen=True)
class RealPictures:
    """Labelled pictures with their groups, and phase that nobody labelled.

    Attributes
    ----------
    pictures
        All of DeepCube.
    groups
        For each picture a number; pictures of different groups share neither volcano nor acquisitions.
    unlabelled
        float32 [N, 224, 224], rad: increments of LiCSAR series.
    """

    pictures: tuple[RealPicture, ...]
    groups: tuple[int, ...]
    unlabelled: NDArray[np.float32]

    def few(self, count: int) -> "RealPictures":
        """Return every n-th picture, so that about `count` are left: for a quick look."""
        step = max(1, len(self.pictures) // count)
        return replace(self, pictures=self.pictures[::step], groups=self.groups[::step])


def read_real(deepcube: Path, series: Path | None) -> RealPictures:
    """Read DeepCube and the series.

    Parameters
    ----------
    deepcube
        Folder that holds S1 and C1.
    series
        Folder of LiCSAR series (.npz); None: without.

    Raises
    ------
    UsageError
        When a folder does not hold what it should.
    """
    pictures = tuple(
        RealPicture(
            name=f"{subset}/{chip.name}",
            subset=subset,
            phase=chip_of(chip.picture, CHIP),
            label=chip.label,
            taken=chip.taken,
            rendering=chip.picture.rendering,
            incoherent=1 - chip.picture.coherent,
        )
        for subset in SUBSETS
        for chip in DeepCube(deepcube, subset).chips()
    )
    paths = [] if series is None else sorted(series.glob("*.npz"))
    return RealPictures(pictures, disjoint_groups([picture.taken for picture in pictures]), _increments(paths))


def _increments(paths: Sequence[Path]) -> NDArray[np.float32]:
    """Return the wrapped phase of every epoch of every series but the first, whose other day is unknown."""
    chips = [
        top_left(each.phase(epoch), CHIP)
        for each in (read_series(path) for path in paths)
        for epoch in range(1, len(each.dates))
    ]
    return np.stack(chips) if chips else np.empty((0, CHIP, CHIP), np.float32)
