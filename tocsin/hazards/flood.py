"""Flood: what goes in, what the codes mean, and how water probability becomes a class.

The class is decided from the quantised probability, so that who reads ``*_probability.tif`` and applies the threshold
gets the class back. What radar cannot judge is 254 and what nobody saw is 255: neither is ever dry.
"""

from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from tocsin.areas import ClassAreas
from tocsin.grid import Grid
from tocsin.hazards.classes import (
    NO_DATA,
    NOT_OBSERVABLE,
    ClassArray,
    ClassFacts,
    Href,
    QuantisedArray,
    decide,
    stored_threshold,
)
from tocsin.result import FloodSummary

__all__ = [
    "BANDS",
    "CHIP",
    "CLASSES",
    "DRY",
    "FLOOD",
    "GSD_M",
    "MODEL",
    "NOT_OBSERVABLE",
    "NO_DATA",
    "PERMANENT",
    "UNITS",
    "WATER",
    "WATER_CLASSES",
    "AreaTally",
    "ClassArray",
    "ClassFacts",
    "FloodInputs",
    "decide",
    "permanence",
    "split",
    "stored_threshold",
]

MODEL: Final = "flood"
"""Name in the model repository."""

CHIP: Final = 512
"""Side of a window, pixels."""

GSD_M: Final = 10.0
"""Ground sampling distance the model was trained on, m."""

UNITS: Final = ("db", "linear")
"""Backscatter in decibel, or linear power."""

BANDS: Final = ("VV", "VH")
"""Bands of an acquisition, in the order of the graph."""

DRY: Final = 0
WATER: Final = 1
PERMANENT: Final = 2
FLOOD: Final = 3

CLASSES: Final[dict[int, ClassFacts]] = {
    DRY: ClassFacts("dry", "No water", (200, 200, 196)),
    WATER: ClassFacts("water", "Water", (0, 114, 178)),
    PERMANENT: ClassFacts("permanent_water", "Permanent water", (86, 180, 233)),
    FLOOD: ClassFacts("flood_water", "Flood water", (213, 43, 30)),
    NOT_OBSERVABLE: ClassFacts("not_observable", "Not observable", (150, 120, 160)),
    NO_DATA: ClassFacts("no_data", "No data", (255, 255, 255)),
}
"""Codes of ``*_class.tif``."""

WATER_CLASSES: Final = (WATER, PERMANENT, FLOOD)
"""Codes that are water, which polygons are made of."""


class FloodInputs(BaseModel):
    """Everything a flood scoring reads. A SAR acquisition is a file, a folder, or ``VV.tif;VH.tif``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    post: Href = Field(min_length=1, description="post-event SAR acquisition")
    pre: Href | None = Field(None, min_length=1, description="pre-event SAR acquisition: water in it is permanent")
    reference_water: Href | None = Field(
        None, min_length=1, description="raster of permanent water: valid and above 0 is water (nearest neighbour)"
    )
    dem: Href | None = Field(
        None, min_length=1, description="terrain height, m: marks layover, shadow and steep slopes"
    )
    exclude: Href | None = Field(
        None, min_length=1, description="raster (valid and above 0) or polygons that radar cannot judge: towns, forest"
    )
    units: Literal["db", "linear"] = Field("db", description="unit of `post` and `pre`")
    orbit_pass: Literal["ascending", "descending"] | None = Field(
        None, description="direction of flight; None: read from tags or file name, else both are assumed with a warning"
    )
    incidence_deg: float | None = Field(
        None,
        ge=15,
        le=60,
        description="incidence at scene centre, degrees; None: from tags, else mid-swath with a warning",
    )


def permanence(
    pre_probability: QuantisedArray | None, reference: npt.NDArray[np.float32] | None, threshold: float
) -> ClassArray | None:
    """Say for each pixel whether it is water at other times: `WATER`, `DRY` or `NO_DATA` (unknown).

    Either of the two says water; dry is what at least one knows and none calls water.

    Parameters
    ----------
    pre_probability : numpy.ndarray or None
        uint16 [height, width] of the pre-event acquisition; water from the same threshold on.
    reference : numpy.ndarray or None
        float32 [height, width]; water above 0, NaN = unknown.
    threshold : float
        Probability from which a pixel is water.

    Returns
    -------
    numpy.ndarray or None
        uint8 [height, width]; None when there is neither.
    """
    answers = []
    if pre_probability is not None:
        answers.append(decide(pre_probability, threshold))
    if reference is not None:
        answers.append(np.where(np.isnan(reference), np.uint8(NO_DATA), (reference > 0).view(np.uint8)))
    if len(answers) < 2:
        return answers[0] if answers else None
    first, second = answers
    return np.where((first == WATER) | (second == WATER), np.uint8(WATER), np.minimum(first, second))


def split(codes: ClassArray, permanent: ClassArray | None) -> ClassArray:
    """Split water into permanent and flood water where `permanence` knows; elsewhere it stays water."""
    if permanent is None:
        return codes
    meaning = np.full(256, WATER, dtype=np.uint8)
    meaning[[WATER, DRY]] = PERMANENT, FLOOD
    return np.where(codes == WATER, meaning[permanent], codes)


class AreaTally(ClassAreas):
    """True areas of the classes of a flood map.

    Parameters
    ----------
    grid : Grid
        Of the class raster.
    """

    def __init__(self, grid: Grid) -> None:
        super().__init__(grid, tuple(CLASSES))

    def summary(self, polygons: int, *, is_split: bool) -> FloodSummary:
        """Figures of the result; flood and permanent water are None unless water was split."""
        return FloodSummary(
            observed_km2=self.km2(DRY, *WATER_CLASSES),
            water_km2=self.km2(*WATER_CLASSES),
            flood_km2=self.km2(FLOOD) if is_split else None,
            permanent_km2=self.km2(PERMANENT) if is_split else None,
            polygons=polygons,
        )
