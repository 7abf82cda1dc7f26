"""Sets of chips that a precision is judged on, and figures where the truth of a chip is known."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from export.parity import ParityChips
from tocsin.detection_figures import auroc, count

FloatArray = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float32]
Truth = npt.NDArray[np.bool_]

CALIBRATION_SEED: Final = 50_000_000
JUDGED_SEED: Final = 60_000_000
"""First seeds of simulated chips: training, tests, the demo and parity draw from below."""


@dataclass(frozen=True)
class Figure:
    """How right an output is.

    Attributes
    ----------
    metric
        Name with its convention.
    of
        (scores [n], truth [n], threshold) -> the figure, or None when the truth does not allow one.
    """

    metric: str
    of: Callable[[Scores, Truth, float], float | None]


@dataclass(frozen=True)
class ChipSet:
    """Chips that are judged together.

    Attributes
    ----------
    name
        What they are, for the table.
    chips
        Batches; each case's name is that of one chip, and no two sets and no calibration chip share one.
    truths
        For each batch what is known, float32 by output name, shaped as the output: 1 yes, 0 no, NaN not judged.
    figures
        By output.
    decided
        False for chips that scoring gives no verdict on: their answers and NaN are compared, no decision is counted.
    """

    name: str
    chips: Sequence[ParityChips]
    truths: Sequence[Mapping[str, FloatArray]] = ()
    figures: Mapping[str, Figure] = field(default_factory=dict)
    decided: bool = True


def iou(scores: Scores, truth: Truth, threshold: float) -> float | None:
    """Return intersection over union, pooled; None when neither side says yes."""
    counts = count(scores >= threshold, truth)
    either = counts.tp + counts.fp + counts.fn
    return counts.tp / either if either else None


def ranking(scores: Scores, truth: Truth, threshold: float) -> float | None:
    """Return the area under the receiver operating characteristic; None when one class is missing."""
    del threshold
    return auroc(scores, truth)
