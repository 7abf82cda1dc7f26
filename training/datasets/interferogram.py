"""One labelled interferogram, where and when it was taken, and groups that share neither volcano nor acquisitions."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tocsin.phase_pictures import PhasePicture

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
class LabelledPhase:
    """Wrapped phase of one interferogram and what a person saw in it.

    Attributes
    ----------
    name
        Unique within its data set: the path relative to the data set's folder.
    taken
        Volcano, frame and days.
    picture
        Phase, positive where the range grew, with and without noise; how it was drawn, since accuracy is reported per
        rendering; and the share of coherent pixels, the shortcut that a model must beat.
    label
        1 with deformation, 0 without.
    """

    name: str
    taken: Taken
    picture: PhasePicture
    label: int


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


def folds(groups: Sequence[int], labels: Sequence[int], count: int) -> tuple[int, ...]:
    """Return for each interferogram its fold, groups kept whole and both labels spread as evenly as they allow.

    Parameters
    ----------
    groups
        From `disjoint_groups`.
    labels
        0 or 1.
    count
        Number of folds, at least 2; some stay empty when there are fewer groups.
    """
    size = np.zeros((max(groups, default=-1) + 1, 2))
    np.add.at(size, (np.asarray(groups, np.intp), np.asarray(labels, np.intp)), 1)
    share = size / np.maximum(size.sum(axis=0), 1)
    load, fold = np.zeros((count, 2)), np.zeros(len(size), np.intp)
    # The largest first: what is left at the end is small enough to even out.
    for group in np.argsort(-share.sum(axis=1), kind="stable"):
        fold[group] = int(np.argmin(((load + share[group]) ** 2).sum(axis=1) - (load**2).sum(axis=1)))
        load[fold[group]] += share[group]
    return tuple(int(fold[group]) for group in groups)


def _find(root: list[int], index: int) -> int:
    """Return the representative of an interferogram's group, shortening the way there."""
    while root[index] != index:
        root[index] = root[root[index]]
        index = root[index]
    return index
