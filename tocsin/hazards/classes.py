"""What the class rasters of all hazards share: codes of what is not known, facts of a code, the decision rule."""

import math
import os
from dataclasses import dataclass
from typing import Annotated, Final

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator

from tocsin.chips import PROBABILITY_NODATA, PROBABILITY_SCALE

NOT_OBSERVABLE: Final = 254
"""Seen, and nothing can be said."""

NO_DATA: Final = 255
"""Not seen."""

ClassArray = npt.NDArray[np.uint8]
MaskArray = npt.NDArray[np.bool_]
QuantisedArray = npt.NDArray[np.uint16]

Href = Annotated[str, BeforeValidator(lambda value: os.fspath(value) if isinstance(value, os.PathLike) else value)]
"""Name of an input: a text or a path."""


@dataclass(frozen=True, slots=True)
class ClassFacts:
    """One code of a class raster.

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


def stored_threshold(threshold: float) -> int:
    """Smallest stored probability (units of 1e-4) that counts: `threshold` rounded up to the next 1e-4."""
    return math.ceil(threshold / PROBABILITY_SCALE - 1e-6)


def decide(probability: QuantisedArray, threshold: float, blocked: MaskArray | None = None) -> ClassArray:
    """Class before the sieve, from stored probability: 0, 1, 254 or 255.

    Parameters
    ----------
    probability : numpy.ndarray
        uint16 [height, width], units of 1e-4, 65535 = no data.
    threshold : float
        Probability from which a pixel counts (flood: water; volcano: deforming).
    blocked : numpy.ndarray or None
        bool [height, width]: what radar cannot judge. No data stays no data there.
    """
    codes: ClassArray = (probability >= stored_threshold(threshold)).view(np.uint8)
    if blocked is not None:
        codes[blocked] = NOT_OBSERVABLE
    codes[probability == PROBABILITY_NODATA] = NO_DATA
    return codes
