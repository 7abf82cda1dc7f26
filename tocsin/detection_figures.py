"""Figures of a detector: how many it caught, how well its scores rank, and whether its probabilities hold.

Nothing here knows what was detected; scores and truth are one-dimensional arrays of the same length.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

Scores = npt.NDArray[np.floating[Any]]
Truth = npt.NDArray[np.bool_]

BINS: Final = 15
"""Bins of the expected calibration error, as in Guo et al. (2017, ICML)."""


class Record(BaseModel):
    """A part of a report."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Counts(Record):
    """How predictions and truth meet."""

    tp: int = Field(ge=0, description="positive, called positive")
    fp: int = Field(ge=0, description="negative, called positive")
    fn: int = Field(ge=0, description="positive, called negative")
    tn: int = Field(ge=0, description="negative, called negative")

    @property
    def accuracy(self) -> float | None:
        """Share of right calls, 0-1; None without any."""
        total = self.tp + self.fp + self.fn + self.tn
        return (self.tp + self.tn) / total if total else None

    @property
    def balanced_accuracy(self) -> float | None:
        """Mean of the shares of right calls among positives and among negatives, 0-1; None when one has none."""
        positives, negatives = self.tp + self.fn, self.fp + self.tn
        if not positives or not negatives:
            return None
        return (self.tp / positives + self.tn / negatives) / 2


def count(called: Truth, truth: Truth) -> Counts:
    """Count calls against truth."""
    return Counts(
        tp=int((called & truth).sum()),
        fp=int((called & ~truth).sum()),
        fn=int((~called & truth).sum()),
        tn=int((~called & ~truth).sum()),
    )


def auroc(scores: Scores, truth: Truth) -> float | None:
    """Return the area under the receiver operating characteristic; None when one class is missing.

    It is the share of pairs (positive, negative) in which the positive scores higher, ties counting half (Hanley and
    McNeil 1982).
    """
    from scipy.stats import rankdata

    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not positives or not negatives:
        return None
    ranks = rankdata(scores)
    return float((ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def average_precision(scores: Scores, truth: Truth) -> float | None:
    """Return the mean precision over the positives, each at the threshold that just catches it; None without one.

    It is the area under precision over recall as a step function. Equal scores are never parted: they share the
    precision of the threshold that catches all of them.
    """
    positives = int(truth.sum())
    if not positives:
        return None
    order = np.argsort(-scores, kind="stable")
    ranked, right = scores[order], np.cumsum(truth[order])
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    caught = right[last]
    return float(((caught / (last + 1)) * np.diff(caught, prepend=0)).sum() / positives)


def calibration_error(probability: Scores, truth: Truth) -> float | None:
    """Return the expected calibration error over equal bins (Guo et al. 2017, equation 3); None without a score."""
    if not probability.size:
        return None
    place = np.minimum((probability * BINS).astype(np.intp), BINS - 1)
    stated = np.bincount(place, weights=probability, minlength=BINS)
    observed = np.bincount(place, weights=truth, minlength=BINS)
    return float(np.abs(stated - observed).sum() / probability.size)


def best_accuracy(scores: Scores, truth: Truth, *, balanced: bool = False) -> float | None:
    """Return the accuracy of the best threshold on these very scores, whichever side is called positive.

    Parameters
    ----------
    scores, truth : numpy.ndarray
        [n]; equal scores are never parted.
    balanced : bool
        Weigh both classes alike; None is returned when one is missing.
    """
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not scores.size or (balanced and not (positives and negatives)):
        return None
    weight_of_one = (1 / positives, 1 / negatives) if balanced else (1.0, 1.0)
    order = np.argsort(scores, kind="stable")
    ranked, right = scores[order], truth[order]
    # Cut before element k: what lies below is called negative, the rest positive.
    below = np.concatenate([[0], np.cumsum(~right)]) * weight_of_one[1]
    above = (positives - np.concatenate([[0], np.cumsum(right)])) * weight_of_one[0]
    possible = np.concatenate([[True], ranked[1:] != ranked[:-1], [True]])
    share = (below + above)[possible] / (2 if balanced else len(scores))
    return float(max(share.max(), 1 - share.min()))


class Shortcut(Record):
    """How far one plain number, without any model, gets on the same pictures."""

    name: str = Field(description="the number")
    auroc: float | None = Field(description="of the better sign; None when a class is missing")
    more_is_positive: bool = Field(description="the better sign: whether more of it means positive")
    accuracy: float | None = Field(description="with the best threshold on these very pictures, which flatters it")
    balanced_accuracy: float | None = Field(description="the same, both classes weighed alike")


def shortcut(name: str, values: Scores, truth: Truth) -> Shortcut:
    """Return the figures of one plain number, both signs tried."""
    area = auroc(values, truth)
    more = area is None or area >= 0.5
    return Shortcut(
        name=name,
        auroc=area if more or area is None else 1 - area,
        more_is_positive=more,
        accuracy=best_accuracy(values, truth),
        balanced_accuracy=best_accuracy(values, truth, balanced=True),
    )
