"""What volcano products are asked to be, and what they say about themselves: verdicts, warnings, picture and item."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tocsin.areas import ClassAreas
from tocsin.chips import PROBABILITY_SCALE, quantise
from tocsin.features import MoreProperties
from tocsin.hazards.classes import stored_threshold
from tocsin.hazards.volcano import CLASSES, DEFORMING, NO_DATA, NOT_OBSERVABLE, STABLE, ChipVerdict
from tocsin.polygons import PixelPolygon
from tocsin.product_request import ProductRequest, method_text
from tocsin.raster import Source
from tocsin.result import ProductName, Provenance, ResultWarning, VolcanoSummary

if TYPE_CHECKING:
    from tocsin.stac import ItemFacts, ItemWords
    from tocsin.volcano_quicklook import Detection, VolcanoPicture

_EDGE: Final = 0.25
"""A window's edge moves in by this, pixels: a polygon that only touches it does not overlap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VolcanoRequest(ProductRequest):
    """What to write, where, and what is known beside the probability.

    Attributes
    ----------
    sources : tuple of str
        Kinds of source, in the order of `ChipVerdict.source`.
    unobservable : Source or None
        Above 0 where coherence was too low to judge.
    acquired, reference_acquired : datetime or None
        UTC of the later and of the earlier acquisition, None when unknown; 00:00:00 of both says only the days.
    """

    sources: tuple[str, ...]
    unobservable: Source | None = None
    acquired: datetime | None = None
    reference_acquired: datetime | None = None


def days_between(request: VolcanoRequest) -> int | None:
    """Days between the two acquisitions; None when one is unknown."""
    if request.acquired is None or request.reference_acquired is None:
        return None
    return (request.acquired.astimezone(UTC).date() - request.reference_acquired.astimezone(UTC).date()).days


def stored(probability: float) -> float:
    """Probability as it is stored, so that a chip and its pixels meet the threshold alike: units of 1e-4."""
    return round(int(quantise(np.array([probability], dtype=np.float32))[0]) * PROBABILITY_SCALE, 4)


class Verdicts(MoreProperties):
    """What the model says of whole chips, for the scene and for every polygon.

    Parameters
    ----------
    verdicts : sequence of ChipVerdict
        In any order; those without a valid pixel (NaN) say nothing.
    sources : tuple of str
        Kinds of source.
    """

    def __init__(self, verdicts: Sequence[ChipVerdict], sources: tuple[str, ...]) -> None:
        self._sources = sources
        self._said = [verdict for verdict in verdicts if math.isfinite(verdict.deformation)]

    @property
    def kinds(self) -> Mapping[str, type]:
        """Type of each property."""
        return {"chip_probability": float, "source": object, "source_probability": float, "scale": np.int32}

    def of(self, polygon: PixelPolygon) -> Mapping[str, Any]:
        """Properties of one polygon, from the chip of the highest probability that overlaps it."""
        from shapely.geometry import Polygon

        shape = Polygon(polygon.rings[0], polygon.rings[1:])
        hits = self._tree.query(shape, predicate="intersects") if self._said else []
        if not len(hits):
            return dict.fromkeys(self.kinds)
        best = self._highest([self._said[index] for index in sorted(hits)])
        source, probability = self._source(best)
        return {
            "chip_probability": stored(best.deformation),
            "source": source,
            "source_probability": probability,
            "scale": best.scale,
        }

    @cached_property
    def _tree(self) -> Any:  # noqa: ANN401 - shapely's tree of windows, in rows and columns
        from shapely import STRtree, box

        windows = [verdict.window for verdict in self._said]
        return STRtree(
            [box(at.row + _EDGE, at.col + _EDGE, at.row_stop - _EDGE, at.col_stop - _EDGE) for at in windows]
        )

    @staticmethod
    def _highest(verdicts: Sequence[ChipVerdict]) -> ChipVerdict:
        return max(verdicts, key=lambda verdict: verdict.deformation)

    def _source(self, verdict: ChipVerdict) -> tuple[str, float]:
        index = int(np.argmax(verdict.source))
        return self._sources[index], round(float(verdict.source[index]), 4)

    def summary(self, tally: ClassAreas, detections: int, threshold: float) -> VolcanoSummary:
        """Figures of the result; areas are None without a CRS."""
        highest = self._highest(self._said) if self._said else None
        probability = None if highest is None else stored(highest.deformation)
        reached = probability is not None and round(probability / PROBABILITY_SCALE) >= stored_threshold(threshold)
        source, source_probability = self._source(highest) if highest is not None and reached else (None, None)
        placed = math.isfinite(tally.unit_km2)
        return VolcanoSummary(
            observed_km2=tally.km2(STABLE, DEFORMING) if placed else None,
            deforming_km2=tally.km2(DEFORMING) if placed else None,
            deformation_probability=probability,
            label=None if probability is None else "deformation" if reached else "stable",
            source=source,
            source_probability=source_probability,
            detections=detections,
        )


def valid_fraction(tally: ClassAreas) -> float:
    """Share of pixels with a result, 0-1: neither no data nor not observable."""
    return (tally.pixels[STABLE] + tally.pixels[DEFORMING]) / max(1, sum(tally.pixels.values()))


def found_warnings(tally: ClassAreas, summary: VolcanoSummary) -> tuple[ResultWarning, ...]:
    """Say what the products cannot say by themselves."""
    found: dict[str, str] = {}
    share = valid_fraction(tally)
    if share == 0:
        found["empty"] = "no pixel of the scene is valid and coherent: nothing was seen, nothing is called stable"
    elif share < 0.5:
        found["mostly_no_data"] = f"only {share:.1%} of the scene has a result; the rest is unknown, not stable"
    if summary.label == "deformation" and not summary.detections:
        found["deformation_not_located"] = (
            "the model sees deformation in a chip, but no patch of pixels reaches the threshold: there is no polygon"
        )
    return tuple(ResultWarning(code=code, message=message) for code, message in found.items())


def picture_facts(
    request: VolcanoRequest,
    tally: ClassAreas,
    detections: Sequence["Detection"],
    outcome: tuple[VolcanoSummary, Provenance, tuple[ResultWarning, ...]],
) -> "VolcanoPicture":
    """Gather what the picture says."""
    from tocsin.volcano_quicklook import VolcanoPicture

    summary, provenance, warnings = outcome
    shown = (DEFORMING, STABLE, *(code for code in (NOT_OBSERVABLE, NO_DATA) if tally.pixels[code]))
    return VolcanoPicture(
        scene_id=request.scene_id,
        grid=request.grid,
        summary=summary,
        km2={code: tally.km2(code) for code in shown},
        pixels={code: tally.pixels[code] for code in shown},
        valid_fraction=valid_fraction(tally),
        acquired=request.acquired,
        reference_acquired=request.reference_acquired,
        days=days_between(request),
        detections=tuple(detections),
        method=method_text(provenance),
        notes=tuple(warning.message for warning in warnings),
    )


def item_words() -> "ItemWords":
    """Return what the items of all interferograms have in common."""
    from tocsin.stac import ItemWords

    return ItemWords(
        hazard="volcano",
        title="Volcanic deformation in",
        lineage=(
            "Probability of deformation by a neural network on wrapped Sentinel-1 interferometric phase, the smaller "
            "of pixel and chip, thresholded, sieved"
        ),
        assets={
            "class": "Deformation class",
            "probability": "Probability of deformation",
            "polygons": "Polygons of deformation",
            "geopackage": "Polygons of deformation",
            "quicklook": "Quicklook",
        },
        classes=CLASSES,
    )


def item_facts(
    request: VolcanoRequest,
    files: Mapping[ProductName, str],
    outcome: tuple[VolcanoSummary, Provenance, tuple[ResultWarning, ...]],
) -> "ItemFacts":
    """Gather what the item says."""
    from tocsin.stac import ItemFacts

    summary, provenance, warnings = outcome
    later, earlier = request.acquired, request.reference_acquired
    times = [time.astimezone(UTC) for time in (earlier, later) if time is not None]
    by_day = all(time == time.replace(hour=0, minute=0, second=0, microsecond=0) for time in times)
    end = later + timedelta(days=1, seconds=-1) if later is not None and by_day else later
    more: dict[str, Any] = {}
    if earlier is not None:
        more["tocsin:reference_acquired"] = earlier.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if times:
        more |= {"tocsin:days_between": days_between(request), "tocsin:times_known_to": "day" if by_day else "second"}
    return ItemFacts(
        words=item_words(),
        scene_id=request.scene_id,
        grid=request.grid,
        files={name: file for name, file in files.items() if name != "item"},
        acquired=later,
        pre_acquired=None,
        span=None if earlier is None else (earlier, end),
        more=more,
        summary=summary,
        provenance=provenance,
        warnings=warnings,
    )
