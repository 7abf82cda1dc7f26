"""How far one plain number of a chip gets without a network: the VH log-ratio, or the slope alone.

A number becomes probabilities of the three classes by counting: chips of the training's places are sorted into bins of
equal size, and each bin says how often which class occurs. Of several numbers of one kind the best one is taken, chosen
on those same chips, never on the ones that are reported.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from tocsin.detection_figures import auroc
from tocsin.hazards.landslide import GSD_M
from tocsin.landslide_evaluation import vh_ratio_db
from training.datasets.burst_chips import LandslideChip

BINS: Final = 20
CLASSES: Final = 3
DROPS_DB: Final = (1.0, 2.0, 3.0, 4.0)
STEEP_DEG: Final = (15.0, 25.0, 35.0)
WINDOW: Final = 5

FloatArray = NDArray[np.floating[Any]]
Statistic = Callable[[LandslideChip], float]


def vh_log_ratio(chip: LandslideChip, acquisitions: int = 3) -> NDArray[np.float32]:
    """Return VH after over VH before, means of linear power over acquisitions, [H, W] dB; NaN where one is missing."""
    return vh_ratio_db(chip.pre_db[-acquisitions:], chip.post_db[:acquisitions])


def _dropped(least_db: float, acquisitions: int, chip: LandslideChip) -> float:
    """Return the share of pixels whose VH, over 5 x 5 px, fell by so much more than that of the whole chip."""
    ratio_db = vh_log_ratio(chip, acquisitions)
    there = np.isfinite(ratio_db)
    if not there.any():
        return 0.0
    weight = uniform_filter(there.astype(np.float32), WINDOW)
    smooth = uniform_filter(np.where(there, ratio_db, 0), WINDOW) / np.maximum(weight, 1e-3)
    return float((smooth[there] < float(np.median(ratio_db[there])) - least_db).mean())


def _slope_deg(chip: LandslideChip) -> FloatArray:
    down, along = np.gradient(chip.dem, GSD_M)
    slope = np.degrees(np.arctan(np.hypot(down, along)))
    return np.asarray(slope[np.isfinite(slope)])


def _steep(least_deg: float, chip: LandslideChip) -> float:
    """Return the share of pixels at least so steep."""
    slope = _slope_deg(chip)
    return float((slope >= least_deg).mean()) if slope.size else 0.0


def ratio_statistics(acquisitions: int) -> dict[str, Statistic]:
    """Return numbers of the VH log-ratio by name."""
    return {
        f"share of pixels with VH down by {drop:g} dB": lambda chip, drop=drop: _dropped(drop, acquisitions, chip)  # type: ignore[misc]
        for drop in DROPS_DB
    }


def slope_statistics() -> dict[str, Statistic]:
    """Return numbers of the slope by name."""
    mean: dict[str, Statistic] = {"mean slope": lambda chip: float(np.nan_to_num(_slope_deg(chip)).mean())}
    return mean | {
        f"share of pixels steeper than {steep:g} deg": lambda chip, steep=steep: _steep(steep, chip)
        for steep in STEEP_DEG
    }


@dataclass(frozen=True)
class Counted:
    """One number of a chip as a classifier.

    Attributes
    ----------
    name
        The number.
    statistic
        How it is measured.
    edges
        [bins - 1] float64, inner edges of the bins.
    probability
        [bins, 3], how often each class occurs in a bin; one more chip of each class is counted, so that none is 0.
    """

    name: str
    statistic: Statistic
    edges: NDArray[np.float64]
    probability: NDArray[np.float64]

    def judge(self, chips: Sequence[LandslideChip]) -> NDArray[np.float64]:
        """Return probabilities [N, 3]."""
        return self.of(np.array([self.statistic(chip) for chip in chips]))

    def of(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return probabilities [N, 3] of numbers [N]."""
        return self.probability[np.searchsorted(self.edges, values, side="right")]


def best_of(statistics: Mapping[str, Statistic], chips: Sequence[LandslideChip], label: NDArray[np.int64]) -> Counted:
    """Return the number whose classes rank best on chips with a known answer."""
    found: list[tuple[float, Counted]] = []
    for name, statistic in statistics.items():
        values = np.array([statistic(chip) for chip in chips])
        edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1]))
        counts = np.ones((len(edges) + 1, CLASSES))
        np.add.at(counts, (np.searchsorted(edges, values, side="right"), label), 1)
        counted = Counted(name, statistic, edges, counts / counts.sum(axis=1, keepdims=True))
        found.append((macro_auc(counted.of(values), label) or 0.0, counted))
    return max(found, key=lambda each: each[0])[1]


def macro_auc(probability: FloatArray, label: NDArray[np.int64]) -> float | None:
    """Return the mean area under the curve of each class against the rest; None when a class is missing."""
    areas = [auroc(probability[:, each], label == each) for each in range(CLASSES)]
    known = [area for area in areas if area is not None]
    return float(np.mean(known)) if len(known) == CLASSES else None
