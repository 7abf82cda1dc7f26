"""What flood products are asked to be, and what they say about themselves: tags, warnings, picture and item."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal

from tocsin.exclusion import Exclusion
from tocsin.hazards.flood import (
    CLASSES,
    DRY,
    FLOOD,
    NO_DATA,
    NOT_OBSERVABLE,
    PERMANENT,
    WATER,
    AreaTally,
)
from tocsin.product_request import ProductRequest, method_text
from tocsin.raster import Source
from tocsin.result import FloodSummary, ProductName, Provenance, ResultWarning
from tocsin.terrain import MID_SWATH_DEG, Terrain

if TYPE_CHECKING:
    from tocsin.quicklook import QuicklookFacts
    from tocsin.stac import ItemFacts, ItemWords

_COVERED: Final = 0.9995
"""Share from which a DEM counts as covering the scene: its outermost half pixels may lie outside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FloodRequest(ProductRequest):
    """What to write, where, and with what beside the probability."""

    pre: bool = False
    reference_water: Source | None = None
    dem: Source | None = None
    exclude: Source | None = None
    orbit_pass: Literal["ascending", "descending"] | None = None
    incidence_deg: float | None = None
    acquired: datetime | None = None
    pre_acquired: datetime | None = None


def exclusion_of(request: FloodRequest) -> Exclusion:
    """Return what judges the pixels of a scene."""
    return Exclusion(
        Terrain(request.grid, request.orbit_pass, request.incidence_deg), dem=request.dem, by_user=request.exclude
    )


def orbit_pass_text(request: FloodRequest) -> str:
    """Say which direction of flight layover and shadow were judged for."""
    return request.orbit_pass or "unknown: either"


def found_warnings(request: FloodRequest, tally: AreaTally, judged_share: float | None) -> tuple[ResultWarning, ...]:
    """Say what the products cannot say by themselves.

    Parameters
    ----------
    request : FloodRequest
        What was asked.
    tally : AreaTally
        After the last row.
    judged_share : float or None
        Share of the valid pixels that the DEM has a height for; None without a DEM or a valid pixel.
    """
    found: dict[str, str] = {}
    if tally.valid_fraction == 0:
        found["empty"] = "no pixel of the scene is valid: nothing was seen, all products are no data"
    elif tally.valid_fraction < 0.5:
        found["mostly_no_data"] = f"only {tally.valid_fraction:.1%} of the scene has a result; the rest is not dry"
    if request.dem is not None:
        if request.orbit_pass is None:
            found["orbit_pass_unknown"] = (
                "the orbit pass is unknown: pixels that an ascending or a descending pass could not see are excluded; "
                "pass --orbit-pass"
            )
        if request.incidence_deg is None:
            found["incidence_unknown"] = (
                f"the incidence is unknown: {MID_SWATH_DEG:g} degrees (mid-swath) are assumed for layover and shadow; "
                "pass --incidence-deg"
            )
        if judged_share is not None and judged_share < _COVERED:
            found["dem_incomplete"] = (
                f"the DEM has no height for {1 - judged_share:.1%} of the valid pixels: layover, shadow and slope "
                "were not judged there (255 in the exclusion raster)"
            )
    is_split = request.pre or request.reference_water is not None
    if is_split and tally.pixels[WATER]:
        found["reference_incomplete"] = (
            f"{tally.km2(WATER):.4g} km2 of water could not be split into flood and permanent water: "
            "neither pre-event scene nor reference water is known there (class 1)"
        )
    return tuple(ResultWarning(code=code, message=message) for code, message in found.items())


def quicklook_facts(
    request: FloodRequest, tally: AreaTally, provenance: Provenance, warnings: tuple[ResultWarning, ...]
) -> "QuicklookFacts":
    """Gather what the picture says."""
    from tocsin.quicklook import QuicklookFacts

    is_split = request.pre or request.reference_water is not None
    shown = [FLOOD, PERMANENT, *([WATER] if tally.pixels[WATER] else [])] if is_split else [WATER]
    unseen = [code for code in (NOT_OBSERVABLE, NO_DATA) if tally.pixels[code]]
    return QuicklookFacts(
        hazard="flood",
        scene_id=request.scene_id,
        grid=request.grid,
        km2={code: tally.km2(code) for code in (*shown, DRY, *unseen)},
        valid_fraction=tally.valid_fraction,
        acquired=request.acquired,
        pre_acquired=request.pre_acquired,
        has_pre=request.pre,
        method=method_text(provenance),
        notes=tuple(warning.message for warning in warnings),
    )


def item_words() -> "ItemWords":
    """Return what the items of all floods have in common."""
    from tocsin.stac import ItemWords

    return ItemWords(
        hazard="flood",
        title="Flood map of",
        lineage="Probability of water by a neural network on Sentinel-1 backscatter, thresholded, sieved",
        assets={
            "class": "Flood class",
            "probability": "Probability of water",
            "exclusion": "What radar cannot judge",
            "polygons": "Polygons of water",
            "geopackage": "Polygons of water",
            "quicklook": "Quicklook",
        },
        classes=CLASSES,
    )


def item_facts(
    request: FloodRequest,
    files: Mapping[ProductName, str],
    outcome: tuple[FloodSummary, Provenance, tuple[ResultWarning, ...]],
) -> "ItemFacts":
    """Gather what the item says."""
    from tocsin.stac import ItemFacts

    summary, provenance, warnings = outcome
    return ItemFacts(
        words=item_words(),
        scene_id=request.scene_id,
        grid=request.grid,
        files={name: file for name, file in files.items() if name != "item"},
        acquired=request.acquired,
        pre_acquired=request.pre_acquired,
        summary=summary,
        provenance=provenance,
        warnings=warnings,
    )
