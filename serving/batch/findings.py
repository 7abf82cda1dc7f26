"""What a scene shows, in the words and the order in which a duty officer asks.

Hazards are not weighed against each other: a square kilometre of water, a landslide and a rising volcano have no common
unit. Within a hazard scenes are ordered so:

- flood: by flood water, km2; water that no reference splits comes after all of that, by its own km2.
- landslide: by the larger of two shares in the batch, of all slid ground and of all expected landslides, so that
  neither a swarm of small slides nor one huge slide comes late. Only scenes with a cell of class low or high.
- volcano: by the probability of deformation, then by deforming ground, km2. Only scenes labelled deformation.

Equal scenes are ordered by the manifest's priority, then by id. Across hazards comes the first of each, then the second
of each, and so on.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final, Literal, TypeVar

from tocsin.result import FloodSummary, LandslideSummary, Result, VolcanoSummary

Tone = Literal["found", "nothing", "unknown"]
"""Something was found, nothing was, or nothing was seen: the last is not the second."""

ORDER: Final = {
    "flood": "flood water, km2; then scenes whose water no reference splits, by water, km2",
    "landslide": "the larger of two shares in the batch: of all slid ground, of all expected landslides",
    "volcano": "probability of deformation, then deforming ground, km2",
    "all": "the first of each hazard, then the second of each, ...: hazards are not weighed against each other",
}
"""How scenes are ranked, in the words that the files carry."""

_LITTLE_SEEN: Final = 0.5
"""Share of a scene below which a finding says how much was seen."""

Thing = TypeVar("Thing")


@dataclass(frozen=True, slots=True)
class Finding:
    """What a scene shows.

    Attributes
    ----------
    tone : str
        Whether something was found, nothing was, or nothing was seen.
    headline : str
        The finding in a few words.
    reasons : tuple of str
        Why it stands where it stands, and what limits it.
    figures : tuple of float
        What it is ranked by, larger is sooner; of landslides slid ground (km2) and expected number.
    observed_km2 : float or None
        None when unknown.
    """

    tone: Tone
    headline: str
    reasons: tuple[str, ...]
    figures: tuple[float, ...]
    observed_km2: float | None


def finding_of(result: Result) -> Finding:
    """Say what a scene shows."""
    summary = result.summary
    if isinstance(summary, FloodSummary):
        found = _flood(summary)
    elif isinstance(summary, LandslideSummary):
        found = _landslide(summary)
    elif isinstance(summary, VolcanoSummary):
        found = _volcano(summary)
    else:
        raise TypeError(f"a batch scores scenes, not {type(summary).__name__}")
    if result.status == "empty":
        return Finding("unknown", "Nothing observed", (), (), 0.0)
    seen = result.scene.valid_fraction
    if seen is not None and seen < _LITTLE_SEEN:
        limit = f"only {share_text(seen)} of the scene was seen"
        return Finding(found.tone, found.headline, (*found.reasons, limit), found.figures, found.observed_km2)
    return found


def interleave(lists: Iterable[Sequence[Thing]]) -> Iterator[Thing]:
    """Yield the first of each list, then the second of each, and so on."""
    absent = object()
    for places in zip_longest(*lists, fillvalue=absent):
        for place in places:
            if place is not absent:
                yield place  # type: ignore[misc]


def km2_text(area: float) -> str:
    """Return an area in words: three digits, at most two decimals."""
    if 0 < area < 0.005:
        return "< 0.01 km²"
    return f"{area:,.0f} km²" if area >= 100 else f"{area:.3g} km²" if area >= 1 else f"{area:.2f} km²"


def share_text(share: float) -> str:
    """Return a share as a percentage that is 0 or 100 only when it is that."""
    if 0 < share < 0.01:
        return "< 1 %"
    return "> 99 %" if 0.99 < share < 1 else f"{share:.0%}".replace("%", " %")


def _flood(summary: FloodSummary) -> Finding:
    observed = summary.observed_km2
    if summary.flood_km2 is None:
        water = f"{km2_text(summary.water_km2)} water, no reference to split it"
        if not summary.water_km2:
            return Finding("nothing", "No water", (), (0.0, 0.0), observed)
        reason = "no pre-event scene or reference water: permanent water is in it"
        return Finding("found", water, (reason,), (0.0, summary.water_km2), observed)
    if not summary.flood_km2:
        return Finding("nothing", "No flood water", (), (0.0, 0.0), observed)
    reasons = (f"{share_text(summary.flood_km2 / observed)} of the observed ground",) if observed else ()
    return Finding(
        "found", f"{km2_text(summary.flood_km2)} flood water", reasons, (summary.flood_km2, summary.water_km2), observed
    )


def _landslide(summary: LandslideSummary) -> Finding:
    expected, observed = summary.expected_landslides or 0.0, summary.observed_km2
    cells = summary.low_cells + summary.high_cells
    if not cells:
        return Finding("nothing", "No landslides found", (), (0.0, 0.0), observed)
    between = summary.expected_landslides_interval
    interval = f" ({between[0]:,.0f} to {between[1]:,.0f})" if between else ""
    reasons = (
        f"{summary.high_cells:,} of {summary.cells:,} cells high, {summary.low_cells:,} low",
        f"{km2_text(summary.landslide_km2)} slid ground",
    )
    headline = f"{expected:,.0f} landslides expected{interval}"
    return Finding("found", headline, reasons, (summary.landslide_km2, expected), observed)


def _volcano(summary: VolcanoSummary) -> Finding:
    observed, headline = summary.observed_km2, summary.verdict
    if summary.label is None:
        return Finding("unknown", headline, (), (), observed)
    if summary.label == "stable":
        return Finding("nothing", headline, (), (0.0, 0.0), observed)
    places = f"{summary.detections:,} deforming {'area' if summary.detections == 1 else 'areas'}"
    area = f", {km2_text(summary.deforming_km2)}" if summary.deforming_km2 else ""
    figures = (summary.deformation_probability or 0.0, summary.deforming_km2 or 0.0)
    return Finding("found", headline, (places + area,), figures, observed)
