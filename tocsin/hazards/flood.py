"""Flood: what goes in, what the codes mean, and how water probability becomes a class.

The class is decided from the quantised probability, so that who reads ``*_probability.tif`` and applies the threshold
gets the class back. What radar cannot judge is 254 and what nobody saw is 255: neither is ever dry.
"""

import os
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

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
NOT_OBSERVABLE: Final = 254
NO_DATA: Final = 255


@dataclass(frozen=True, slots=True)
class ClassFacts:
    """One code of the class raster.

    Attributes
    ----------
    name : str
        Machine name, in STAC and polygons.
    title : str
        What the legend of the quicklook says.
    colour : tuple of int
        Red, green, blue, 0-255; colour-blind safe after Okabe and Ito (2008).
    """

    name: str
    title: str
    colour: tuple[int, int, int]


CLASSES: Final[dict[int, ClassFacts]] = {
    DRY: ClassFacts("dry", "No water", (226, 226, 220)),
    WATER: ClassFacts("water", "Water", (0, 114, 178)),
    PERMANENT: ClassFacts("permanent_water", "Permanent water", (86, 180, 233)),
    FLOOD: ClassFacts("flood_water", "Flood water", (213, 43, 30)),
    NOT_OBSERVABLE: ClassFacts("not_observable", "Not observable by radar", (150, 120, 160)),
    NO_DATA: ClassFacts("no_data", "No data", (255, 255, 255)),
}
"""Codes of ``*_class.tif``."""

WATER_CLASSES: Final = (WATER, PERMANENT, FLOOD)
"""Codes that are water, which polygons are made of."""

ClassArray = npt.NDArray[np.uint8]
MaskArray = npt.NDArray[np.bool_]
QuantisedArray = npt.NDArray[np.uint16]

Href = Annotated[str, BeforeValidator(lambda value: os.fspath(value) if isinstance(value, os.PathLike) else value)]


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
