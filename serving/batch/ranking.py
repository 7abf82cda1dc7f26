"""Where to go first: ``ranking.geojson``, the scenes of a batch in the order of `serving.batch.findings`.

A scene is in it when something was found there. It stands there with up to five places, its leading polygons: flood
water by area, cells by their rank, deformation by the probability of its highest chip. A scene whose finding has no
polygon stands there with its outline, and a picture of phase without a place.
"""

import heapq
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from serving.batch.entry import Entry
from serving.batch.findings import ORDER, Finding, finding_of, interleave
from serving.batch.footprints import footprint_of, href
from serving.batch.target import Target
from tocsin.result import Hazard

LISTED: Final = 1000
"""Scenes of a hazard that are listed; more are counted, not listed."""

PLACES: Final = 5
"""Polygons of a scene that are listed."""

Key = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class _Found:
    """A scene with a finding."""

    entry: Entry
    finding: Finding


def write_ranking(entries: Iterable[Entry], target: Target) -> dict[str, str]:
    """Write ``ranking.geojson``.

    Parameters
    ----------
    entries
        Each scene once; read once, as a stream.
    target
        Where the products lie.

    Returns
    -------
    dict
        Path of the output by its name.
    """
    lists: dict[Hazard, _List] = {"flood": _List(), "landslide": _Shares(), "volcano": _List()}
    for entry in entries:
        if entry.result is None:
            continue
        finding = finding_of(entry.result)
        if finding.tone == "found":
            lists[entry.hazard].add(_Found(entry, finding))
    ranked = [one.ranked() for one in lists.values()]
    counts = {hazard: {"found": one.count, "listed": len(ranked[at])} for at, (hazard, one) in enumerate(lists.items())}
    with target.open_whole("ranking.geojson") as file:
        _write(file, target, counts, interleave([list(enumerate(one, 1)) for one in ranked]))
    return {"ranking": "ranking.geojson"}


class _List:
    """The first scenes of one hazard, whatever the order in which they come."""

    def __init__(self) -> None:
        self.count = 0
        self._kept: list[_Found] = []

    def add(self, found: _Found) -> None:
        self.count += 1
        self._kept.append(found)
        if len(self._kept) >= 2 * LISTED:
            self._kept = self._first()

    def ranked(self) -> list[_Found]:
        """Return the first scenes in order."""
        return _sorted(self._kept, lambda found: found.finding.figures)[:LISTED]

    def _first(self) -> list[_Found]:
        return self.ranked()


class _Shares(_List):
    """The first scenes by the larger of their shares of two totals.

    Who is among the first by the larger share is among the first by one of the two figures, so that keeping both is
    enough, and the totals need not be known before.
    """

    def __init__(self) -> None:
        super().__init__()
        self._totals = (0.0, 0.0)

    def add(self, found: _Found) -> None:
        area, number = found.finding.figures
        self._totals = (self._totals[0] + area, self._totals[1] + number)
        super().add(found)

    def ranked(self) -> list[_Found]:
        def share(found: _Found) -> Key:
            parts = zip(found.finding.figures, self._totals, strict=True)
            return (max(part / total if total else 0.0 for part, total in parts),)

        return _sorted(self._kept, share)[:LISTED]

    def _first(self) -> list[_Found]:
        by_area = _sorted(self._kept, lambda found: found.finding.figures[:1])[:LISTED]
        by_number = _sorted(self._kept, lambda found: found.finding.figures[1:])[:LISTED]
        chosen = {found.entry.id: found for found in [*by_area, *by_number]}
        return list(chosen.values())


def _sorted(kept: Iterable[_Found], key: Callable[[_Found], Key]) -> list[_Found]:
    def place(found: _Found) -> tuple[Key, float, str]:
        return tuple(-figure for figure in key(found)), -found.entry.priority, found.entry.id

    return sorted(kept, key=place)


def _write(file: BinaryIO, target: Target, counts: Mapping[Hazard, Any], ranked: Iterator[tuple[int, _Found]]) -> None:
    head = {"type": "FeatureCollection", "tocsin:order": ORDER, "tocsin:scenes": counts}
    file.write((json.dumps(head)[:-1] + ', "features": [').encode())
    separator = "\n"
    for rank, (hazard_rank, found) in enumerate(ranked, 1):
        for feature in _features(found, target):
            feature["properties"] = {"rank": rank, "hazard_rank": hazard_rank, **feature["properties"]}
            file.write((separator + json.dumps(feature, allow_nan=False)).encode())
            separator = ",\n"
    file.write(b"\n]}\n")


def _features(found: _Found, target: Target) -> Iterator[dict[str, Any]]:
    """Yield the places of a scene, or the scene as a whole."""
    entry, reasons = found.entry, list(found.finding.reasons)
    result = entry.result
    assert result is not None, "only scenes that are done have findings"
    places: Sequence[dict[str, Any]] = []
    if "polygons" in result.products:
        try:
            with target.local(result.products["polygons"]) as path, path.open(encoding="utf-8") as lines:
                places = _leading(lines, entry.hazard)
        except OSError as error:
            reasons.append(f"its polygons could not be read ({type(error).__name__}): the outline of the scene")
    acquired = result.scene.acquired
    facts = {
        "hazard": entry.hazard,
        "scene": entry.id,
        "found": found.finding.headline,
        "why": "; ".join(reasons),
        "acquired": acquired.isoformat() if acquired else None,
        "priority": entry.priority,
        "quicklook": href(result.products["quicklook"]) if "quicklook" in result.products else None,
    }
    for number, place in enumerate(places, 1):
        known = place["properties"]
        more = {"place": number, "area_km2": known["area_km2"], "probability": known["probability"]}
        yield {"type": "Feature", "geometry": place["geometry"], "properties": facts | more}
    if not places:
        outline = footprint_of(result.scene)
        more = {"place": None, "area_km2": None, "probability": None}
        geometry = None if outline is None else outline.geometry
        yield {"type": "Feature", "geometry": geometry, "properties": facts | more}


def _leading(lines: Iterable[str], hazard: Hazard) -> list[dict[str, Any]]:
    """Return the polygons to look at first; tocsin writes one a line, so that a large file is never held whole."""
    texts = (line.strip().removesuffix(",") for line in lines)
    features = (json.loads(text) for text in texts if text.startswith('{"type":"Feature",'))
    news = (feature for feature in features if feature["properties"]["class_name"] != "permanent_water")
    return heapq.nsmallest(PLACES, news, key=lambda feature: _urgency(feature["properties"], hazard))


def _urgency(known: dict[str, Any], hazard: Hazard) -> tuple[float, ...]:
    """Order of a polygon within its scene, smaller is sooner."""
    if hazard == "flood":
        return (known["class_name"] != "flood_water", -known["area_km2"], known["id"])
    if hazard == "landslide":
        return (known["rank"],)
    return (-(known["chip_probability"] or 0.0), -known["area_km2"], known["id"])
