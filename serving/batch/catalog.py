"""The static STAC catalog of a batch: ``catalog.json``, a collection for each hazard, the items that scoring wrote.

All links are relative, so that the folder may be moved or copied to a bucket. Items are linked, never rewritten: a
product stays as its scoring left it. A scene without an item (a picture of phase has no place on Earth) is in the
report only.
"""

import json
from collections.abc import Iterable
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any, BinaryIO, Final

from serving.batch.entry import Entry
from serving.batch.footprints import footprint_of
from serving.batch.target import Target
from tocsin.result import Hazard, Result

STAC_VERSION: Final = "1.1.0"

_TITLES: Final[dict[Hazard, str]] = {
    "flood": "Flood maps",
    "landslide": "Landslide maps",
    "volcano": "Maps of volcanic deformation",
}


def write_catalog(entries: Iterable[Entry], target: Target) -> dict[str, str]:
    """Write ``HAZARD/collection.json`` for each hazard with an item, then ``catalog.json``.

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
    collections: dict[Hazard, _Collection] = {}
    with ExitStack() as stack:
        for entry in entries:
            result = entry.result
            if result is None or "item" not in result.products:
                continue
            if entry.hazard not in collections:
                file = stack.enter_context(target.open_whole(f"{entry.hazard}/collection.json"))
                collections[entry.hazard] = _Collection(entry.hazard, file)
            collections[entry.hazard].add(result)
        for collection in collections.values():
            collection.close()
    links = [_link("root", "./catalog.json")]
    links += [_link("child", f"./{hazard}/collection.json", _TITLES[hazard]) for hazard in sorted(collections)]
    catalog = {
        "type": "Catalog",
        "stac_version": STAC_VERSION,
        "id": "tocsin-batch",
        "title": "Batch of tocsin",
        "description": "Products of a batch: a collection for each hazard, an item for each scene.",
        "links": links,
    }
    with target.open_whole("catalog.json") as file:
        file.write((json.dumps(catalog, indent=1) + "\n").encode())
    return {"catalog": "catalog.json"}


class _Collection:
    """A collection that is written while its items come: links first, then what only the last item completes."""

    def __init__(self, hazard: Hazard, file: BinaryIO) -> None:
        self._hazard = hazard
        self._file = file
        self._extent = _Extent()
        self._models: set[str] = set()
        head: dict[str, Any] = {
            "type": "Collection",
            "stac_version": STAC_VERSION,
            "id": hazard,
            "title": _TITLES[hazard],
            "description": f"{_TITLES[hazard]} of a batch of tocsin: an item for each scene.",
            "license": "other",
            "keywords": ["tocsin", hazard],
        }
        links = [_link("root", "../catalog.json"), _link("parent", "../catalog.json")]
        text = json.dumps(head, indent=1).removesuffix("\n}") + ',\n "links": [\n  '
        file.write((text + ",\n  ".join(json.dumps(link) for link in links)).encode())

    def add(self, result: Result) -> None:
        """Link the item of a scene."""
        # Not quoted: pystac reads a link as it stands, and the item links its assets so too.
        item = "./" + result.products["item"].removeprefix(f"{self._hazard}/")
        self._file.write((",\n  " + json.dumps(_link("item", item, result.scene.id, "application/geo+json"))).encode())
        self._extent.add(result)
        made = result.provenance
        self._models.add(f"{made.model} {made.version} {made.precision}")

    def close(self) -> None:
        """Write the rest; nothing may be added afterwards."""
        rest = {"extent": self._extent.as_json(), "summaries": {"tocsin:model": sorted(self._models)}}
        self._file.write(("\n ],\n" + json.dumps(rest, indent=1).removeprefix("{\n") + "\n").encode())


class _Extent:
    """Where and when all scenes lie."""

    def __init__(self) -> None:
        self._box: tuple[float, float, float, float] | None = None
        self._start: datetime | None = None
        self._end: datetime | None = None

    def add(self, result: Result) -> None:
        from tocsin.stac import MISSION_START

        found = footprint_of(result.scene)
        if found is not None:
            west, south, east, north = found.box
            old = self._box or found.box
            self._box = (min(old[0], west), min(old[1], south), max(old[2], east), max(old[3], north))
        acquired = result.scene.acquired
        # As in the item: a time that is unknown lies between the first mission and the processing.
        start, end = acquired or MISSION_START, acquired or result.provenance.started
        self._start, self._end = min(self._start or start, start), max(self._end or end, end)

    def as_json(self) -> dict[str, Any]:
        box = self._box or (-180.0, -90.0, 180.0, 90.0)
        times = [None if time is None else _stamp(time) for time in (self._start, self._end)]
        return {"spatial": {"bbox": [list(box)]}, "temporal": {"interval": [times]}}


def _stamp(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _link(relation: str, target: str, title: str | None = None, media_type: str = "application/json") -> dict[str, str]:
    link = {"rel": relation, "href": target, "type": media_type}
    return link if title is None else {**link, "title": title}
