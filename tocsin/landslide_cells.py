"""Cells of a landslide map: what chips say of them, what was seen in them, their rank, the landslides to expect.

A cell is 64 x 64 px of the model's grid. Its probabilities and its density are the plain mean over the chips that cover
it and answered; a chip of which hardly anything was seen counts only where no better one does. Arrays over cells are
[row, col]; all of them together take 100 bytes a cell, 6 MB for a scene of 16,000 x 16,000 px.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from tocsin.chips import PROBABILITY_NODATA, QuantisedArray, quantise
from tocsin.grid import Grid
from tocsin.hazards.classes import MaskArray
from tocsin.hazards.landslide import CHIP, LANDSLIDE_CLASSES, NO_DATA, NOT_OBSERVABLE, STEP, ClassArray, decide

LEAST_SEEN: Final = (STEP / CHIP / 2) ** 2
"""A chip of which a smaller share was seen (a sixteenth: a quarter of a cell) counts only where no other does."""

MOST_EXCLUDED: Final = 0.5
"""A cell is not observable when a larger share of its seen ground is excluded."""

COUNT_ERROR: Final = "expected landslides over a region, root mean square natural logarithm over the true number"
"""Name of the manifest's metric that widens the interval of the expected number."""

_DECIMALS: Final = 3
"""Decimals of a density per km2: like probabilities it is stored in steps that the order of sums does not reach."""

_NORMAL_95: Final = 1.6448536269514722
"""95 % quantile of the normal distribution."""

AreaArray = npt.NDArray[np.float64]


class ChipAnswers:
    """What every chip answered, in any order.

    Parameters
    ----------
    rows, cols : int
        Windows of the plan along both axes: one more than there are cells.
    """

    def __init__(self, rows: int, cols: int) -> None:
        self._said = np.full((3, rows, cols), np.nan)
        self._seen = np.zeros((rows, cols))

    def add(self, place: tuple[int, int], shares: npt.NDArray[np.float32], density: float, seen: float) -> None:
        """Take one answer.

        Parameters
        ----------
        place : tuple of int
            Row and column of the window in its plan.
        shares : numpy.ndarray
            float32 [3]: P(none), P(low), P(high); NaN when the model says nothing.
        density : float
            Landslides per km2; NaN when the model says nothing.
        seen : float
            Share of the chip that was seen on both sides of the event, 0-1.
        """
        self._said[:, *place] = float(shares[1]) + float(shares[2]), float(shares[2]), density
        self._seen[place] = seen

    def means(self) -> AreaArray:
        """Mean P(any), P(high) and density per km2 of each cell, float64 [3, row, col]; NaN where no chip answered."""
        answered = np.isfinite(self._said).all(axis=0)
        enough, each = (self._mean(answered & (self._seen >= least)) for least in (LEAST_SEEN, 0.0))
        return np.where(np.isnan(enough), each, enough)

    def thin(self) -> MaskArray:
        """Whether a cell rests on chips of which hardly anything was seen, bool [row, col]."""
        answered = np.isfinite(self._said).all(axis=0)
        enough, each = (self._mean(answered & (self._seen >= least)) for least in (LEAST_SEEN, 0.0))
        return np.asarray(np.isnan(enough[0]) & np.isfinite(each[0]))

    def _mean(self, counted: MaskArray) -> AreaArray:
        """Mean over the four chips of each cell, of those that count."""
        number = _four(counted.astype(np.float64))
        total = _four(np.where(counted, self._said, 0.0))
        mean = np.full(total.shape, np.nan)
        np.divide(total, number, out=mean, where=number > 0)
        return mean


def _four(chips: AreaArray) -> AreaArray:
    """Sum over the four chips that cover each cell: [..., rows, cols] of chips to one less of cells."""
    above = chips[..., :-1, :] + chips[..., 1:, :]
    return np.asarray(above[..., :-1] + above[..., 1:])


class CellGround:
    """True areas in each cell, counted while rows of the scene pass.

    Parameters
    ----------
    grid : Grid
        The scene's own.
    cells : Grid
        The cells, of the same CRS and upper left corner.

    Attributes
    ----------
    seen, observed, slid : numpy.ndarray
        float64 [row, col], km2: ground seen on both sides; of it what can be judged; of that what the mask calls slid.
    """

    def __init__(self, grid: Grid, cells: Grid) -> None:
        self._grid = grid
        down, across = grid.transform.e / cells.transform.e, grid.transform.a / cells.transform.a
        self._row = np.minimum(((np.arange(grid.height) + 0.5) * down).astype(np.int64), cells.height - 1)
        self._col = np.minimum(((np.arange(grid.width) + 0.5) * across).astype(np.int64), cells.width - 1)
        self._starts = np.flatnonzero(np.diff(self._col, prepend=-1))
        self.seen, self.observed, self.slid = np.zeros((3, *cells.shape))

    def add(self, row: int, codes: ClassArray) -> None:
        """Count some rows: uint8 [height, width], 0 seen, 1 slid, `NOT_OBSERVABLE` or `NO_DATA`."""
        area = np.nan_to_num(self._grid.pixel_area_km2(row, len(codes)))
        starts = np.flatnonzero(np.diff(self._row[row : row + len(codes)], prepend=-1))
        place = (self._row[row + starts][:, None], self._col[self._starts])
        for target, here in (
            (self.seen, codes != NO_DATA),
            (self.observed, codes < NOT_OBSERVABLE),
            (self.slid, codes == 1),
        ):
            across = np.add.reduceat(np.where(here, area, 0.0), self._starts, axis=1)
            target[place] += np.add.reduceat(across, starts, axis=0)


@dataclass(frozen=True, slots=True)
class Cells:
    """Decided cells.

    Attributes
    ----------
    codes : numpy.ndarray
        uint8 [row, col], codes of `tocsin.hazards.landslide.CLASSES`.
    any_probability, high_probability : numpy.ndarray
        uint16 [row, col], units of 1e-4, 65535 where a cell is not judged: P(low or high), P(high).
    density_per_km2 : numpy.ndarray
        float32 [row, col], NaN where a cell is not judged.
    observed_km2, slid_km2 : numpy.ndarray
        float64 [row, col]: ground that was judged, and of it what the mask calls slid; 0 where a cell is not judged.
    """

    codes: ClassArray
    any_probability: QuantisedArray
    high_probability: QuantisedArray
    density_per_km2: npt.NDArray[np.float32]
    observed_km2: AreaArray
    slid_km2: AreaArray

    @property
    def landslides(self) -> MaskArray:
        """Whether a cell holds landslides, bool [row, col]."""
        return np.isin(self.codes, LANDSLIDE_CLASSES)

    @property
    def expected(self) -> AreaArray:
        """Expected landslides of each cell, density x observed area: float64 [row, col], 0 where it is not judged."""
        return np.nan_to_num(self.density_per_km2.astype(np.float64)) * self.observed_km2

    def km2(self, code: int) -> float:
        """Judged ground in cells of a class, km2."""
        return float(self.observed_km2[self.codes == code].sum())

    def shares(self) -> AreaArray:
        """Return what cells are ranked by, float64 [row, col], 0-1.

        It is the larger of two shares: of the slid ground and of the expected landslides of all cells with landslides.
        So a cell with many small slides comes first, and so does one with a single huge slide of low density.
        """
        parts = [np.where(self.landslides, amount, 0.0) for amount in (self.slid_km2, self.expected)]
        area, number = (part / max(part.sum(), 1e-12) for part in parts)
        return np.asarray(np.maximum(area, number))

    def ranked(self) -> npt.NDArray[np.int64]:
        """Row-major index of every cell with landslides, the worst first: by share, probability, then place."""
        index = np.flatnonzero(self.landslides)
        share, probability = self.shares().ravel()[index], self.any_probability.ravel()[index].astype(np.int64)
        order: npt.NDArray[np.int64] = np.lexsort((index, -probability, -share))
        return index[order]

    def interval(self, log_error: float) -> tuple[float, float] | None:
        """90 % interval of the number of landslides, by `count_interval`; None when nothing was judged."""
        if not self.observed_km2.any():
            return None
        return count_interval(float(self.expected[self.landslides].sum()), float(self.expected.sum()), log_error)


def decided(answers: ChipAnswers, ground: CellGround, threshold: float) -> Cells:
    """Decide cells.

    Parameters
    ----------
    answers : ChipAnswers
        Of all chips.
    ground : CellGround
        After the last row.
    threshold : float
        Probability from which a class is reached.
    """
    any_mean, high_mean, density = answers.means()
    any_stored, high_stored = (quantise(mean.astype(np.float32)) for mean in (any_mean, high_mean))
    # A chip answers for four cells; where a cell itself was not seen, its neighbours say nothing about it.
    any_stored[ground.seen == 0] = PROBABILITY_NODATA
    blocked = ground.seen - ground.observed > MOST_EXCLUDED * ground.seen
    codes = decide(any_stored, high_stored, threshold, blocked)
    judged = codes < NOT_OBSERVABLE
    for stored in (any_stored, high_stored):
        stored[~judged] = PROBABILITY_NODATA
    return Cells(
        codes=codes,
        any_probability=any_stored,
        high_probability=high_stored,
        density_per_km2=np.where(judged, np.round(density, _DECIMALS), np.nan).astype(np.float32),
        observed_km2=np.where(judged, ground.observed, 0.0),
        slid_km2=np.where(judged, ground.slid, 0.0),
    )


def count_interval(certain: float, expected: float, log_error: float) -> tuple[float, float]:
    """Return bounds of the number of landslides that hold it in at least 90 % of regions like those that were measured.

    Below: the 5 % quantile of a Poisson count with the mean that cells called low or high expect; what is expected of
    cells called none may be nothing at all. Above: the 95 % quantile with the mean that all cells expect. Both means
    are moved outward by 1.64 times the model's measured error of the logarithm of a region's number.

    It covers chance in the number and the model's error on the regions that its manifest names, which are simulated.
    It does not cover what the simulation lacks, landslides that radar cannot see (small, over bare ground, in layover,
    shadow or no data), nor how an inventory counts those that touch. Without a measured error it covers chance alone.

    Parameters
    ----------
    certain, expected : float
        Expected landslides in cells called low or high, and in all cells.
    log_error : float
        Root mean square natural logarithm of expected over true number; 0 when it was not measured.
    """
    widened = math.exp(_NORMAL_95 * log_error)
    return _poisson_quantile(certain / widened, 0.05), _poisson_quantile(expected * widened, 0.95)


def _poisson_quantile(mean: float, share: float) -> float:
    """Return the smallest count that a Poisson variable exceeds with at most 1 - `share`."""
    if mean <= 0:
        return 0.0
    reach = 12 * math.sqrt(mean) + 40
    first = max(0, math.floor(mean - reach))
    counts = np.arange(first, math.ceil(mean + reach) + 1, dtype=np.float64)
    steps = np.log(mean / np.maximum(counts[1:], 1))
    start = first * math.log(mean) - mean - math.lgamma(first + 1)
    cumulated = np.cumsum(np.exp(start + np.concatenate([[0.0], np.cumsum(steps)])))
    reached = int(np.searchsorted(cumulated, share))
    return float(counts[min(reached, len(counts) - 1)])
