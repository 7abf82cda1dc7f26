"""What landslide products are asked to be, and what they say about themselves: tags, warnings, picture and item."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from tocsin.areas import ClassAreas
from tocsin.chips import PROBABILITY_SCALE
from tocsin.exclusion import Exclusion
from tocsin.features import MoreProperties
from tocsin.grid import Grid
from tocsin.hazards.landslide import CHIP, CLASSES, HIGH, LOW, NO_DATA, NONE, NOT_OBSERVABLE, STEEP_DEG
from tocsin.landslide_cells import LEAST_SEEN, Cells
from tocsin.polygons import PixelPolygon
from tocsin.product_request import ProductRequest, method_text, probability_spec, product_tags
from tocsin.raster import RasterSpec, Source
from tocsin.result import LandslideSummary, ProductName, Provenance, ResultWarning
from tocsin.terrain import MID_SWATH_DEG, Terrain

if TYPE_CHECKING:
    from tocsin.landslide_quicklook import LandslidePicture
    from tocsin.stac import ItemFacts, ItemWords

Times = tuple[datetime | None, ...]

LEFT_OUT: Final = 0.1
"""Share of the mask's slid ground in cells without landslides from which the result says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LandslideRequest(ProductRequest):
    """What to write, where, and what is known beside mask and cells.

    Attributes
    ----------
    cells : Grid
        Of class, probability and density; `grid` is that of the mask.
    pre_acquired, post_acquired : tuple of (datetime or None)
        UTC of every acquisition, the scene first among those after; None where unknown.
    days_between : float or None
        From the last one before to the first one after; None when a time is unknown.
    count_error : float or None
        The model's measured error of the logarithm of a region's number of landslides; None when it states none.
    """

    cells: Grid
    pre_acquired: Times
    post_acquired: Times
    days_between: float | None
    count_error: float | None = None
    heights: Source | None = None
    exclude: Source | None = None
    orbit_pass: Literal["ascending", "descending"] | None = None
    incidence_deg: float | None = None


class CellProperties(MoreProperties):
    """What is known of a cell beside class, area and probability.

    Parameters
    ----------
    cells : Cells
        Polygons are named by the row-major index of their cell.
    """

    def __init__(self, cells: Cells) -> None:
        self._cells = cells
        self._shares = cells.shares().ravel()
        self._rank = {int(index): rank for rank, index in enumerate(cells.ranked(), 1)}

    @property
    def kinds(self) -> Mapping[str, type]:
        """Type of each property."""
        numbers = ("density_per_km2", "area_fraction", "share", "high_probability", "observed_km2")
        return {"rank": np.int32} | dict.fromkeys(numbers, float)

    def of(self, polygon: PixelPolygon) -> Mapping[str, Any]:
        """Properties of one cell."""
        cells, at = self._cells, polygon.first
        observed = float(cells.observed_km2.ravel()[at])
        return {
            "rank": self._rank[at],
            "density_per_km2": round(float(cells.density_per_km2.ravel()[at]), 2),
            "area_fraction": round(float(cells.slid_km2.ravel()[at]) / observed, 4),
            "share": round(float(self._shares[at]), 4),
            "high_probability": round(int(cells.high_probability.ravel()[at]) * PROBABILITY_SCALE, 4),
            "observed_km2": round(observed, 10),
        }


def density_spec(request: LandslideRequest) -> RasterSpec:
    """Describe ``*_density.tif``."""
    return RasterSpec(
        dtype="float32",
        nodata=float("nan"),
        unit="1/km2",
        description="landslides per km2",
        tags=product_tags("landslide", request) | {"TOCSIN_VALUE": "expected landslides per km2 of a cell"},
        overview="average",
    )


def cell_probability_spec(request: LandslideRequest) -> RasterSpec:
    """Describe ``*_probability.tif``: of a cell."""
    spec = probability_spec("landslide", request, "probability of any landslide in a cell")
    meaning = "P(any landslide) of a cell: of density class low or high"
    return spec.model_copy(update={"tags": spec.tags | {"TOCSIN_VALUE": meaning}})


def mask_spec(request: LandslideRequest) -> RasterSpec:
    """Describe ``*_mask.tif``: of a pixel."""
    spec = probability_spec("landslide", request, "probability that a pixel slid")
    meaning = "P(landslide) of a pixel; no data where it was not seen on both sides of the event or is excluded"
    return spec.model_copy(update={"tags": spec.tags | {"TOCSIN_VALUE": meaning}})


def exclusion_of(request: LandslideRequest) -> Exclusion:
    """Return what judges the pixels: slopes alone where the orbit pass is unknown."""
    # Excluding what either pass cannot see would take away half of the slopes of a mountain range.
    terrain = Terrain(
        request.grid,
        request.orbit_pass,
        request.incidence_deg,
        azimuths_deg=() if request.orbit_pass is None else None,
        steep_deg=STEEP_DEG,
    )
    return Exclusion(terrain, dem=request.heights, by_user=request.exclude)


def orbit_pass_text(request: LandslideRequest) -> str:
    """Say which direction of flight layover and shadow were judged for."""
    return request.orbit_pass or "unknown: layover and shadow not judged"


def summary_of(request: LandslideRequest, cells: Cells) -> LandslideSummary:
    """Figures of the result."""
    judged = {code: int(np.count_nonzero(cells.codes == code)) for code in (NONE, LOW, HIGH)}
    observed = float(cells.observed_km2.sum())
    days = request.days_between
    return LandslideSummary(
        observed_km2=round(observed, 10),
        landslide_km2=round(float(cells.slid_km2[cells.landslides].sum()), 10),
        expected_landslides=round(float(cells.expected.sum()), 2) if observed else None,
        expected_landslides_interval=cells.interval(request.count_error or 0.0),
        cells=sum(judged.values()),
        low_cells=judged[LOW],
        high_cells=judged[HIGH],
        days_between=None if days is None else round(days, 3),
    )


def valid_fraction(tally: ClassAreas) -> float:
    """Share of the scene's pixels with a result, 0-1: neither no data nor not observable."""
    pixels = tally.pixels
    return 1 - (pixels[NO_DATA] + pixels[NOT_OBSERVABLE]) / max(1, sum(pixels.values()))


def found_warnings(request: LandslideRequest, cells: Cells, share: float, thin_cells: int) -> tuple[ResultWarning, ...]:
    """Say what the products cannot say by themselves.

    Parameters
    ----------
    request : LandslideRequest
        What was asked.
    cells : Cells
        Decided.
    share : float
        Share of the scene's pixels with a result, 0-1.
    thin_cells : int
        Cells that rest on chips of which hardly anything was seen.
    """
    found = _of_inputs(request)
    if share == 0:
        found["empty"] = "no pixel can be judged that was seen before and after: nothing is called free of landslides"
    elif share < 0.5:
        found["mostly_no_data"] = f"only {share:.1%} of the scene has a result; the rest is unknown, not quiet"
    if thin_cells:
        found["thin_cells"] = (
            f"{thin_cells} of {cells.codes.size} cells rest on chips of {CHIP} px of which less than {LEAST_SEEN:.1%} "
            "was seen; the model was trained on chips that are mostly whole: look at the images"
        )
    aside = float(cells.slid_km2[~cells.landslides].sum())
    if aside > LEFT_OUT * float(cells.slid_km2.sum()):
        found["mask_beside_cells"] = (
            f"{aside:.3g} km2 of mask reach the threshold in cells without landslides, and are not in landslide_km2"
        )
    return tuple(ResultWarning(code=code, message=message) for code, message in found.items())


def _of_inputs(request: LandslideRequest) -> dict[str, str]:
    """Say what was not known or little."""
    found = {}
    sides = {"before": len(request.pre_acquired), "after": len(request.post_acquired)}
    alone = " and ".join(f"one {side}" for side, count in sides.items() if count == 1)
    if alone:
        found["single_acquisition"] = (
            f"only {alone}: speckle and passing change look like landslides more often; pass up to three on each side"
        )
    if request.count_error is None:
        found["count_error_unknown"] = (
            "the model states no error of the expected number of landslides: its interval covers chance alone"
        )
    if request.heights is None:
        return found
    if request.orbit_pass is None:
        found["orbit_pass_unknown"] = (
            "the orbit pass is unknown: layover and shadow were not judged, only slopes above "
            f"{STEEP_DEG:g} degrees; pass --orbit-pass"
        )
    elif request.incidence_deg is None:
        found["incidence_unknown"] = (
            f"the incidence is unknown: {MID_SWATH_DEG:g} degrees (mid-swath) are assumed for layover and shadow; "
            "pass --incidence-deg"
        )
    return found


def picture_facts(
    request: LandslideRequest,
    cells: Cells,
    tally: ClassAreas,
    outcome: tuple[LandslideSummary, Provenance, tuple[ResultWarning, ...]],
) -> "LandslidePicture":
    """Gather what the picture says."""
    from tocsin.landslide_quicklook import LandslidePicture

    summary, provenance, warnings = outcome
    judged = {code: cells.km2(code) for code in (HIGH, LOW, NONE)}
    # Seen ground that no judged cell counts: excluded pixels, and the rest of cells that are mostly excluded.
    unseen = tally.km2(NO_DATA)
    aside = max(0.0, tally.km2(*tally.units) - unseen - sum(judged.values()))
    km2 = judged | {code: area for code, area in ((NOT_OBSERVABLE, aside), (NO_DATA, unseen)) if tally.pixels[code]}
    return LandslidePicture(
        scene_id=request.scene_id,
        grid=request.grid,
        cells_grid=request.cells,
        cells=cells,
        km2=km2,
        summary=summary,
        valid_fraction=valid_fraction(tally),
        pre_acquired=request.pre_acquired,
        post_acquired=request.post_acquired,
        method=method_text(provenance, "cells of 64 px"),
        notes=tuple(warning.message for warning in warnings),
    )


def item_words() -> "ItemWords":
    """Return what the items of all landslide maps have in common."""
    from tocsin.stac import ItemWords

    return ItemWords(
        hazard="landslide",
        title="Landslides in",
        lineage=(
            "Density class, density and mask of landslides by a neural network on Sentinel-1 backscatter before and "
            "after, means over chips in cells of 64 px of 10 m"
        ),
        assets={
            "class": "Landslide class of cells",
            "probability": "Probability of any landslide in a cell",
            "density": "Landslides per km2 of a cell",
            "mask": "Probability that a pixel slid",
            "exclusion": "What radar cannot judge",
            "polygons": "Ranked cells with landslides",
            "geopackage": "Ranked cells with landslides",
            "quicklook": "Quicklook",
        },
        classes=CLASSES,
    )


def item_facts(
    request: LandslideRequest,
    files: Mapping[ProductName, str],
    outcome: tuple[LandslideSummary, Provenance, tuple[ResultWarning, ...]],
) -> "ItemFacts":
    """Gather what the item says."""
    from tocsin.stac import ItemFacts

    summary, provenance, warnings = outcome
    times = (*request.pre_acquired, *request.post_acquired)
    known = [time for time in times if time is not None]
    more: dict[str, Any] = {
        "tocsin:pre_acquired": [_stamp(time) for time in request.pre_acquired],
        "tocsin:post_acquired": [_stamp(time) for time in request.post_acquired],
        "tocsin:days_between": summary.days_between,
    }
    return ItemFacts(
        words=item_words(),
        scene_id=request.scene_id,
        grid=request.grid,
        grids=dict.fromkeys(("class", "probability", "density"), request.cells),
        files={name: file for name, file in files.items() if name != "item"},
        acquired=request.post_acquired[0],
        pre_acquired=None,
        span=(min(known), max(known)) if len(known) == len(times) else None,
        more=more,
        summary=summary,
        provenance=provenance,
        warnings=warnings,
    )


def _stamp(time: datetime | None) -> str | None:
    return None if time is None else time.astimezone(UTC).isoformat().replace("+00:00", "Z")
