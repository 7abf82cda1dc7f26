"""Pictures of interferograms on disk: what a name tells, which share a volcano or a pair, and where they lie.

Labelled pictures lie in folders named 0 (no deformation) and 1 (deformation), as DeepCube's do (Bountos et al. 2021,
IEEE GRSL): ``C1/{0,1}``, ``S1/{Train,Test}/{0,1}``.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tocsin.errors import UsageError
from tocsin.phase_pictures import PhasePicture

PHASE: Final[Literal["phase", "noisy_phase"]] = "noisy_phase"
"""Which phase of a `tocsin.phase_pictures.PhasePicture` a model is given, in training, scoring and evaluation: the one
with noise. Rasters hold noise as phase too, and a picture without its noise would tell a model where noise is."""

SUFFIXES: Final = frozenset({".png", ".tif", ".tiff"})
CLASS_FOLDERS: Final = ("0", "1")

# region_volcano_FRAME_volcano_DAY_DAY..., where only the repeated volcano tells where the region ends.
S1_NAME: Final = re.compile(
    r"^(?:z_)?(?P<region>[a-z_]+?)_(?P<volcano>[^/]+)_(?P<frame>\d{3}[AD]_\d{5}_\d{6})_(?P=volcano)"
    r"_(?P<start>\d{8})_(?P<end>\d{8})(?!\d)"
)
C1_NAME: Final = re.compile(r"^(?:(?P<volcano>[A-Za-z][\w-]*?)_)?(?P<start>\d{8})_(?P<end>\d{8})(?!\d)")


UNNAMED = "unnamed"
"""Volcano of many places, which is no place."""

FrameId = Annotated[str, Field(pattern=r"^(\d{3}[AD]_\d{5}_\d{6})?$")]


class Taken(BaseModel):
    """Where and when an interferogram was taken, as far as its name tells.

    Attributes
    ----------
    region
        Part of the world, lower case, empty when not stated.
    volcano
        Lower case, words joined by underscores, empty when not stated.
    frame
        LiCSAR frame (track and direction, colatitude index, bursts), empty when not stated.
    start, end
        Days of the two acquisitions; None when not stated.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    region: str = Field("", description="part of the world")
    volcano: str = Field("", description="volcano, lower case")
    frame: FrameId = Field("", description="LiCSAR frame")
    start: date | None = Field(None, description="day of the earlier acquisition")
    end: date | None = Field(None, description="day of the later acquisition")

    @model_validator(mode="after")
    def _in_order(self) -> "Taken":
        if (self.start is None) != (self.end is None):
            msg = "one day of a pair is missing"
            raise ValueError(msg)
        if self.start is not None and self.end is not None and self.start >= self.end:
            msg = "the later acquisition is not after the earlier one"
            raise ValueError(msg)
        return self

    @property
    def place(self) -> str:
        """The volcano, with its region where many share the name; empty when not stated."""
        return f"{self.region}/{self.volcano}" if self.volcano == UNNAMED else self.volcano


@dataclass(frozen=True)
class LabelledPicture:
    """One picture in a folder named 0 or 1.

    Attributes
    ----------
    id
        Path relative to the folder that was searched, with forward slashes.
    path
        The file.
    label
        1 with deformation, 0 without.
    subset
        First folder below the one that was searched, such as C1; empty when that one holds 0 and 1 itself.
    """

    id: str
    path: Path
    label: int
    subset: str


def find_pictures(folder: Path) -> tuple[LabelledPicture, ...]:
    """Return the pictures in folders named 0 and 1 at any depth, sorted by their id.

    Raises
    ------
    UsageError
        When it is no folder, or holds none.
    """
    found = []
    for path in folder.rglob("*"):
        if path.suffix.lower() in SUFFIXES and path.parent.name in CLASS_FOLDERS and path.is_file():
            relative = path.relative_to(folder)
            subset = relative.parts[0] if len(relative.parts) > 2 else ""
            found.append(LabelledPicture(relative.as_posix(), path, int(path.parent.name), subset))
    if not found:
        raise UsageError(
            f"{folder}, which holds no pictures in folders named 0 or 1",
            "pictures (PNG) of interferograms without deformation in folders named 0, with it in folders named 1",
            "name the folder above them, as DeepCube's C1 or S1",
        )
    return tuple(sorted(found, key=lambda picture: picture.id))


def taken_of(name: str) -> Taken:
    """Return what a picture's name tells; a name in another form tells nothing.

    Parameters
    ----------
    name
        File name or path, as ``africa_erta_ale_014A_07688_131313_erta_ale_20161031_20170204_184_118_0.png``,
        ``Cerro_Azul_20160125_20160406.geo.diff1_0.png`` or ``20141121_20141227.geo.diff1_2.png``.
    """
    stem = Path(name).name
    matched = S1_NAME.match(stem) or C1_NAME.match(stem)
    if matched is None:
        return Taken()
    facts = {key: value or "" for key, value in matched.groupdict().items()}
    days = {key: f"{facts[key][:4]}-{facts[key][4:6]}-{facts[key][6:]}" for key in ("start", "end")}
    volcano = facts["volcano"].lower().replace("-", "_")
    try:
        return Taken.model_validate(facts | days | {"volcano": volcano})
    except ValidationError:
        return Taken()


def top_left(phase: NDArray[np.float32], size_px: int) -> NDArray[np.float32]:
    """Return the top left square, as the published loader of C1 cuts it; what lies outside is NaN.

    Parameters
    ----------
    phase
        [row, col], rad.
    size_px
        Rows and columns of the result.
    """
    square = np.full((size_px, size_px), np.nan, np.float32)
    kept = phase[:size_px, :size_px]
    square[: kept.shape[0], : kept.shape[1]] = kept
    return square


def chip_of(picture: PhasePicture, size_px: int) -> NDArray[np.float32]:
    """Return what a model is given of a picture in training and in evaluation: the top left square of its `PHASE`.

    Parameters
    ----------
    picture
        As read.
    size_px
        Rows and columns of the chip.

    Returns
    -------
    ndarray
        float32 [size, size], rad, (-pi, pi], NaN where missing.
    """
    phase: NDArray[np.float32] = getattr(picture, PHASE)
    return top_left(phase, size_px)


def disjoint_groups(taken: Sequence[Taken]) -> tuple[int, ...]:
    """Return for each interferogram the number of its group, such that no two groups share what would leak.

    Two interferograms belong together when they show the same volcano, or come from the same pair of acquisitions of a
    frame: crops of one pair, under different volcanoes too, show one deformation and one atmosphere. An unknown frame
    may be any, so that its days join all frames of these days. Groups are closed under both, and numbered in the order
    in which they first occur.
    """
    open_days = {(item.start, item.end) for item in taken if not item.frame and item.start}
    members: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for index, item in enumerate(taken):
        days = (item.start, item.end)
        if item.place:
            members["volcano", item.place].append(index)
        if item.start and item.frame:
            members["pair", item.frame, *days].append(index)
        if days in open_days:
            members["days", *days].append(index)
    root = list(range(len(taken)))
    for together in members.values():
        for index in together[1:]:
            root[_find(root, index)] = _find(root, together[0])
    numbers: dict[int, int] = {}
    return tuple(numbers.setdefault(_find(root, index), len(numbers)) for index in range(len(taken)))


def _find(root: list[int], index: int) -> int:
    """Return the representative of an interferogram's group, shortening the way there."""
    while root[index] != index:
        root[index] = root[root[index]]
        index = root[index]
    return index
