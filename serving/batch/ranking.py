"""Where to go first: ``ranking.geojson``, the scenes of a batch in the order of `serving.batch.findings`.

A scene is in it when something was found there. It stands there with up to five places, its leading polygons: flood
water by area, cells by their rank, deformation by the probability of its highest chip. A scene whose finding has no
polygon stands there with its outline, and so does every scene after the first thousand, which the file says; a picture
of phase has no place.
"""

import heapq
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from serving.batch.entry import Entry
from serving.batch.findings import ORDER
from serving.batch.footprints import footprint_of, href
from serving.batch.ranks import Ranked, RankedEntries
from serving.batch.target import Target
from tocsin.result import Hazard

WITH_PLACES: Final = 1000
"""Scenes that stand there with their polygons, which have to be read for it."""

PLACES: Final = 5
"""Polygons of a scene that are listed."""


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
    with RankedEntries(entries) as ranked, target.open_whole("ranking.geojson") as file:
        head: dict[str, Any] = {"type": "FeatureCollection", "tocsin:order": ORDER}
        head |= {"tocsin:scenes_found": ranked.found, "tocsin:scenes_with_places": WITH_PLACES}
        file.write((json.dumps(head)[:-1] + ', "features": [').encode())
        separator = "\n"
        for scene in ranked.in_order():
            for feature in _features(scene, target):
                file.write((separator + json.dumps(feature, allow_nan=False)).encode())
                separator = ",\n"
        file.write(b"\n]}\n")
    return {"ranking": "ranking.geojson"}


def _features(scene: Ranked, target: Target) -> Iterator[dict[str, Any]]:
    """Yield the places of a scene, or the scene as a whole."""
    entry, result, finding = scene.entry, scene.entry.result, scene.finding
    assert result is not None, "only scenes that are done are ranked"
    assert finding is not None, "only scenes with a finding are ranked"
    assert scene.rank is not None, "only ranked scenes come here"
    reasons = list(finding.reasons)
    places: Sequence[dict[str, Any]] = []
    if "polygons" in result.products and scene.rank <= WITH_PLACES:
        try:
            with target.local(result.products["polygons"]) as path, path.open(encoding="utf-8") as lines:
                places = _leading(lines, entry.hazard)
        except OSError as error:
            reasons.append(f"its polygons could not be read ({type(error).__name__}): the outline of the scene")
    acquired = result.scene.acquired
    facts = {
        "rank": scene.rank,
        "hazard_rank": scene.hazard_rank,
        "hazard": entry.hazard,
        "scene": entry.id,
        "found": finding.headline,
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
