"""Landslides: what goes in, what the codes mean, and how probabilities and densities become a class.

A cell is 64 x 64 px of 10 m. Its class is ordinal: it is the highest one that is reached or exceeded with the
threshold's probability, decided from quantised probabilities, so that who reads them gets the class back. What radar
cannot judge is 254 and what nobody saw is 255: neither is ever without landslides.

The classes follow the map of the United States Geological Survey of the landslides of Hurricane Maria (Bessette-Kirton
et al. 2019, GSA Today 29, 4-10): none, at most 25 and more than 25 per km2. That map counts on cells of 2 x 2 km; to
count on chips of 128 px (1.638 km2, of which 41 landslides make more than 25 per km2) is tocsin's own choice.
"""

from typing import Annotated, Final, Literal

import numpy as np
import numpy.typing as npt
from affine import Affine
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from tocsin.grid import Grid
from tocsin.hazards.classes import (
    NO_DATA,
    NOT_OBSERVABLE,
    ClassArray,
    ClassFacts,
    Href,
    MaskArray,
    QuantisedArray,
    stored_threshold,
)
from tocsin.hazards.classes import decide as reached

__all__ = [
    "ACQUISITIONS",
    "BANDS",
    "CELL_KM2",
    "CHIP",
    "CHIP_KM2",
    "CLASSES",
    "GSD_M",
    "HIGH",
    "HIGH_DENSITY_PER_KM2",
    "LANDSLIDE_CLASSES",
    "LOW",
    "MODEL",
    "NONE",
    "NOT_OBSERVABLE",
    "NO_DATA",
    "STEEP_DEG",
    "STEP",
    "UNITS",
    "ClassArray",
    "ClassFacts",
    "LandslideInputs",
    "cell_grid",
    "class_of_density",
    "decide",
    "stored_threshold",
]

MODEL: Final = "landslide"
"""Name in the model repository."""

CHIP: Final = 128
"""Side of a window, pixels."""

STEP: Final = 64
"""From one window to the next, and side of a cell, pixels."""

GSD_M: Final = 10.0
"""Ground sampling distance the model was trained on, m."""

CHIP_KM2: Final = (CHIP * GSD_M / 1000) ** 2
"""Area of a window, km2."""

CELL_KM2: Final = (STEP * GSD_M / 1000) ** 2
"""Area of a cell, km2."""

ACQUISITIONS: Final = 3
"""Most acquisitions on either side of the event; the graph has as many places, NaN where there is none."""

UNITS: Final = ("db", "linear")
"""Backscatter in decibel, or linear power."""

BANDS: Final = ("VV", "VH")
"""Bands of an acquisition, in the order of the graph."""

HIGH_DENSITY_PER_KM2: Final = 25.0
"""Most landslides per km2 of the class low."""

STEEP_DEG: Final = 50.0
"""Slope above which ground is not judged, degrees. The 20 degrees of the flood map would take away the very slopes that
slide; from about 52 on, at mid-swath, ground is layover or shadow whichever way along the range it faces."""

NONE: Final = 0
LOW: Final = 1
HIGH: Final = 2

CLASSES: Final[dict[int, ClassFacts]] = {
    NONE: ClassFacts("none", "No landslides found", (200, 200, 196)),
    LOW: ClassFacts("low", "Landslides, at most 25 per km²", (230, 159, 0)),
    HIGH: ClassFacts("high", "Landslides, more than 25 per km²", (213, 43, 30)),
    NOT_OBSERVABLE: ClassFacts("not_observable", "Not observable", (150, 120, 160)),
    NO_DATA: ClassFacts("no_data", "No data", (255, 255, 255)),
}
"""Codes of ``*_class.tif``."""

LANDSLIDE_CLASSES: Final = (LOW, HIGH)
"""Codes of cells with landslides, which are ranked."""

Side = Annotated[
    tuple[Annotated[Href, Field(min_length=1)], ...],
    BeforeValidator(lambda value: value if isinstance(value, (list, tuple)) else (value,)),
    Field(min_length=1, max_length=ACQUISITIONS),
]
"""The acquisitions on one side of the event; one name alone is one acquisition."""


class LandslideInputs(BaseModel):
    """Everything a landslide scoring reads. A SAR acquisition is a file, a folder, or ``VV.tif;VH.tif``.

    Raises
    ------
    pydantic.ValidationError
        No acquisition or more than three on a side, or one that is named twice: it would count as two looks.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    post: Side = Field(description="one to three post-event SAR acquisitions of one track; the first gives the grid")
    pre: Side = Field(description="one to three pre-event SAR acquisitions of that track, in any order")
    dem: Href | None = Field(
        None,
        min_length=1,
        description="terrain height, m: the model reads slopes from it; marks layover, shadow and cliffs",
    )
    exclude: Href | None = Field(
        None, min_length=1, description="raster (valid and above 0) or polygons that radar cannot judge"
    )
    units: Literal["db", "linear"] = Field("db", description="unit of `pre` and `post`")
    orbit_pass: Literal["ascending", "descending"] | None = Field(
        None,
        description="direction of flight, for `dem`; None: from tags, else layover and shadow are not judged, and said",
    )
    incidence_deg: float | None = Field(
        None,
        ge=15,
        le=60,
        description="incidence at scene centre, degrees, for `dem`; None: from tags, else mid-swath with a warning",
    )

    @model_validator(mode="after")
    def _named_once(self) -> "LandslideInputs":
        names = (*self.pre, *self.post)
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"each acquisition is named once, not {twice[0]} twice")
        return self


def class_of_density(density_per_km2: npt.NDArray[np.float32 | np.float64]) -> ClassArray:
    """Class of a density: `NONE` at 0, `LOW` to 25 per km2, `HIGH` above, `NO_DATA` where it is NaN.

    Parameters
    ----------
    density_per_km2 : numpy.ndarray
        Floating, any shape, landslides per km2, never negative, NaN = not known.
    """
    codes = (density_per_km2 > 0).astype(np.uint8)
    codes += density_per_km2 > HIGH_DENSITY_PER_KM2
    codes[np.isnan(density_per_km2)] = NO_DATA
    return codes


def decide(
    any_probability: QuantisedArray,
    high_probability: QuantisedArray,
    threshold: float,
    blocked: MaskArray | None = None,
) -> ClassArray:
    """Class of cells from stored probabilities: the highest class that is reached or exceeded with the threshold's.

    At a threshold of 0.5 this is the median of the three ordered classes; a lower one errs on the side of landslides.
    High never decides against any: who reads ``*_probability.tif`` knows from the threshold alone where landslides are.

    Parameters
    ----------
    any_probability, high_probability : numpy.ndarray
        uint16 [row, col] of cells, units of 1e-4, 65535 = no data: P(low or high) and P(high).
    threshold : float
        Probability from which a class is reached, 0-1.
    blocked : numpy.ndarray or None
        bool [row, col]: cells that radar cannot judge. No data stays no data there.

    Returns
    -------
    numpy.ndarray
        uint8 [row, col], codes of `CLASSES`.
    """
    codes = reached(any_probability, threshold, blocked)
    high = reached(high_probability, threshold)
    codes[(codes == LOW) & (high == 1)] = HIGH
    return codes


def cell_grid(grid: Grid) -> Grid:
    """Return the cells of a grid of the model's pixels: 64 x 64 px each, from its upper left corner, covering it."""
    at = grid.transform
    cells = Affine(at.a * STEP, 0.0, at.c, 0.0, at.e * STEP, at.f)
    return Grid(grid.crs, cells, -(-grid.height // STEP), -(-grid.width // STEP))
