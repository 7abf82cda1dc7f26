"""One labelled chip."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IGNORE = -1
"""Label of a pixel that nobody judged, or where no band is valid."""


@dataclass(frozen=True)
class LabelledChip:
    """Backscatter and water label of one chip.

    Attributes
    ----------
    name
        Unique within its data set.
    event
        Flood event, the unit by which data are split; empty for simulated chips.
    s1_db
        [2, H, W] float32 VV, VH in dB, NaN where missing.
    label
        [H, W] int16: 0 dry, 1 water, :data:`IGNORE`.
    """

    name: str
    event: str
    s1_db: NDArray[np.float32]
    label: NDArray[np.int16]
