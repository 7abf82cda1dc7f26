"""Bands by name: their kind, their unit, and constants that bring them to order one.

A name is a base (``VV``), or a base and what sets it apart (``VV_before``, ``coherence_summer``); the base says what is
measured. Names decide what goes where: a band is never guessed from its place in a file.
"""

from dataclasses import dataclass
from typing import Final, Literal

from tocsin.errors import WrongBandsError
from training.preprocess import HIGH_DB, LOW_DB

Kind = Literal["backscatter", "ratio", "reflectance", "coherence", "phase", "height"]


@dataclass(frozen=True)
class Band:
    """What a base stands for.

    Attributes
    ----------
    kind
        backscatter and ratio in dB, reflectance and coherence without unit, phase in rad, height in m.
    mean, std
        What normalises it, in its unit; unused by phase, which becomes a point on the unit circle.
    low, high
        Range that values are cut to before, in its unit.
    """

    kind: Kind
    mean: float
    std: float
    low: float
    high: float


S2: Final = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")

# VV and VH as the flood recipes have them (between the statistics of several data sets); the others: of order one.
BANDS: Final[dict[str, Band]] = {
    "VV": Band("backscatter", -11.3, 4.8, LOW_DB[0], HIGH_DB[0]),
    "VH": Band("backscatter", -18.5, 5.8, LOW_DB[1], HIGH_DB[1]),
    "VV-VH": Band("ratio", 7.2, 3.4, -10.0, 30.0),
    **{name: Band("reflectance", 0.15, 0.12, -0.1, 2.0) for name in S2},
    "coherence": Band("coherence", 0.5, 0.3, 0.0, 1.0),
    "phase": Band("phase", 0.0, 1.0, -1e6, 1e6),
    "height": Band("height", 500.0, 800.0, -500.0, 9000.0),
}


def base_of(name: str) -> str:
    """Return what a band's name begins with.

    Raises
    ------
    WrongBandsError
        When nobody knows it.
    """
    base = name.partition("_")[0]
    if base not in BANDS:
        raise WrongBandsError(
            f"band {name!r}", f"a name that is or begins with one of {', '.join(BANDS)}", "name the band so"
        )
    return base


def band_of(name: str) -> Band:
    """Return what is known of a band by its name.

    Raises
    ------
    WrongBandsError
        When nobody knows it.
    """
    return BANDS[base_of(name)]
