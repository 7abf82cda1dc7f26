"""Volcanic deformation: what goes in, what the codes mean, and how probability becomes a class and an alarm.

A pixel deforms when its own probability and that of its chip both reach the threshold: the smaller of the two decides,
so that no pixel alarms in a chip that the model calls stable. What was too incoherent to judge is 254 and what nobody
saw is 255: neither is ever stable.
"""

from dataclasses import dataclass
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from tocsin.grid import Window
from tocsin.hazards.classes import NO_DATA, NOT_OBSERVABLE, ClassArray, ClassFacts, Href, decide, stored_threshold
from tocsin.simulate.sources import SOURCES

__all__ = [
    "BANDS",
    "CHIP",
    "CLASSES",
    "DEFORMING",
    "DEFORMING_CLASSES",
    "GSD_M",
    "MODEL",
    "NOT_OBSERVABLE",
    "NO_DATA",
    "SOURCES",
    "STABLE",
    "UNITS",
    "ChipVerdict",
    "ClassArray",
    "ClassFacts",
    "VolcanoInputs",
    "decide",
    "stored_threshold",
]

MODEL: Final = "volcano"
"""Name in the model repository."""

CHIP: Final = 224
"""Side of a window, pixels."""

GSD_M: Final = 100.0
"""Pixel size to which finer interferograms are brought, m: that of LiCSAR."""

UNITS: Final = ("rad", "m")
"""Phase in radians, or motion toward the satellite in metres."""

BANDS: Final = ("phase",)
"""Bands of an interferogram, in the order of the graph."""

STABLE: Final = 0
DEFORMING: Final = 1

CLASSES: Final[dict[int, ClassFacts]] = {
    STABLE: ClassFacts("stable", "No deformation found", (200, 200, 196)),
    DEFORMING: ClassFacts("deforming", "Deforming", (213, 43, 30)),
    NOT_OBSERVABLE: ClassFacts("not_observable", "Not observable (low coherence)", (150, 120, 160)),
    NO_DATA: ClassFacts("no_data", "No data", (255, 255, 255)),
}
"""Codes of ``*_class.tif``."""

DEFORMING_CLASSES: Final = (DEFORMING,)
"""Codes that polygons are made of."""


class VolcanoInputs(BaseModel):
    """Everything a volcano scoring reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    interferogram: Href = Field(
        min_length=1, description="georeferenced raster of phase, one band, or a PNG picture of wrapped phase"
    )
    coherence: Href | None = Field(
        None, min_length=1, description="raster of coherence on the same grid, 0-1 or 0-255 (LiCSAR)"
    )
    phase: Literal["wrapped", "unwrapped"] | None = Field(
        None, description="kind of phase; None: from the file's name or band description, else wrapped"
    )
    units: Literal["rad", "m"] = Field(
        "rad", description="rad, or m toward the satellite (LiCSBAS, LiCSAlert), which is always unwrapped"
    )
    min_coherence: float = Field(
        0.2, ge=0, le=1, description="pixels of less coherence are not shown to the model and are not observable"
    )


@dataclass(frozen=True, slots=True)
class ChipVerdict:
    """What the model says about one chip as a whole.

    Attributes
    ----------
    window : Window
        The chip's place on the scene's own grid; may reach outside it.
    scale : int
        1: at the model's own pixel size; 3: at one third of the resolution.
    deformation : float
        P(deformation somewhere in the chip), 0-1, calibrated as the manifest says.
    source : tuple of float
        P over the kinds of source, in the order of the manifest (`SOURCES`), 0-1.
    valid_fraction : float
        Share of the chip's pixels that held phase, 0-1.
    """

    window: Window
    scale: int
    deformation: float
    source: tuple[float, ...]
    valid_fraction: float
