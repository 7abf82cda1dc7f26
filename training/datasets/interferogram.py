"""One labelled interferogram, and folds that keep groups whole."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tocsin.interferograms import Taken
from tocsin.phase_pictures import PhasePicture


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


def folds(groups: Sequence[int], labels: Sequence[int], count: int) -> tuple[int, ...]:
    """Return for each interferogram its fold, groups kept whole and both labels spread as evenly as they allow.

    Parameters
    ----------
    groups
        From `tocsin.interferograms.disjoint_groups`.
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
