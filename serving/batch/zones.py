"""Statistics of a batch in zones: ``zones.parquet``, ``zones.geojson`` and ``zones.html``.

A figure is null where nothing was observed: unknown is not zero. Zones are ranked as scenes are, hazard by hazard: by
flood water or, where nothing splits it, by water; by expected landslides where ground slid; by the probability of
deformation where ground deforms. Then the first of each hazard comes before the second of each; a zone has its best
place.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from serving.batch.entry import Entry
from serving.batch.findings import interleave, km2_text, share_text
from serving.batch.footprints import footprint_of
from serving.batch.report_page import Column, Page, Row, Tile, rings_of, write_page
from serving.batch.zone_counting import CountedScene, Counts, count
from serving.batch.zone_files import Zones, read_zones
from tocsin.result import Hazard, VolcanoSummary, probability_text

if TYPE_CHECKING:
    import pyarrow as pa

    from serving.batch.target import Target

__all__ = ["Zones", "read_zones", "write_zones"]

OVERLAP: Final = "Where scenes of one hazard overlap, the latest one that observed a place counts there, and no other."
TONES: Final = {"found": "Something found", "unknown": "Nothing observed", "nothing": "Nothing found"}

_COLUMNS: Final = (
    Column("Rank", "rank", "76px", "A zone has its best place among those of a hazard"),
    Column("Zone", "name", "20%"),
    Column("Finding", "finding", "auto"),
    Column(
        "Flood km²", "number", "104px", "Flood water; unknown where nothing was observed or no reference splits water"
    ),
    Column("of seen", "share", "84px", "Flood water as a share of the observed ground"),
    Column("Landslides", "number", "108px", "Expected number on the observed ground"),
    Column("Volcano", "text", "108px", choose=True),
    Column("Seen", "share", "80px", "Share of the zone that was observed, of the hazard that saw most"),
)
_NOTES: Final = (
    OVERLAP,
    "A dash is unknown, never zero: nothing was observed there, or no reference splits flood water from other water.",
    "Ground counts by the exact share of each pixel in the zone and by true areas on the ellipsoid.",
    "Zones that overlap each other are counted each for itself, so that their figures do not add up.",
    "Volcano “suspected”: an interferogram over the zone shows deformation without saying where.",
)
_KINDS: Final[tuple[Hazard, ...]] = ("flood", "landslide", "volcano")


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneFigures:
    """What is known of one zone; None is unknown.

    Attributes
    ----------
    zone : str
        Its name.
    zone_km2 : float
        True area.
    flood_observed_share, landslide_observed_share, volcano_observed_share : float
        Share of the zone that was seen and can be judged, 0-1.
    flood_km2, flood_share, unsplit_water_km2
        Flood water, its share of the observed ground, and water that no reference splits.
    landslides_expected, slid_km2
        Sum of density x observed area, and ground of the mask in cells with landslides.
    volcano_state : str
        ``deforming``, ``suspected`` (a scene says so without saying where), ``stable`` or ``unknown``.
    volcano_probability, deforming_km2
        The highest of a pixel in the zone, and deforming ground.
    """

    zone: str
    zone_km2: float
    flood_observed_share: float
    flood_km2: float | None
    flood_share: float | None
    unsplit_water_km2: float | None
    landslide_observed_share: float
    landslides_expected: float | None
    slid_km2: float | None
    volcano_observed_share: float
    volcano_state: str
    volcano_probability: float | None
    deforming_km2: float | None

    @property
    def observed_share(self) -> float:
        """Share of the zone that was observed, of the hazard that saw most."""
        return max(self.flood_observed_share, self.landslide_observed_share, self.volcano_observed_share)

    @property
    def found(self) -> dict[Hazard, tuple[str, tuple[float, ...]]]:
        """What was found by hazard: in words, and by which figures it is ranked, larger is sooner."""
        found: dict[Hazard, tuple[str, tuple[float, ...]]] = {}
        water, unsplit = self.flood_km2 or 0.0, self.unsplit_water_km2 or 0.0
        if water or unsplit:
            kinds = (("flood water", water), ("water without a reference", unsplit))
            said = ", ".join(f"{km2_text(area)} {kind}" for kind, area in kinds if area)
            found["flood"] = said, (water, unsplit)
        if self.slid_km2:
            number = self.landslides_expected or 0.0
            found["landslide"] = f"{number:,.0f} landslides expected", (number, self.slid_km2)
        if self.volcano_state in {"deforming", "suspected"}:
            probability = self.volcano_probability or 0.0
            figures = (float(self.volcano_state == "deforming"), probability, self.deforming_km2 or 0.0)
            found["volcano"] = f"{self.volcano_state}, {probability_text(probability)}", figures
        return found

    @property
    def tone(self) -> str:
        """Whether something was found, nothing was, or nothing was seen."""
        if self.found:
            return "found"
        return "nothing" if self.observed_share else "unknown"

    @property
    def headline(self) -> str:
        """The finding in a few words."""
        if self.found:
            return "; ".join(said for said, _ in self.found.values())
        seen = self.observed_share
        return f"Nothing found on the {share_text(seen)} that was seen" if seen else "Nothing observed"


def write_zones(entries: Iterable[Entry], zones: Zones, target: "Target") -> dict[str, str]:
    """Write the statistics of every zone as a table, a map and a page.

    Parameters
    ----------
    entries
        Each scene once; read once, as a stream. What touches a zone is remembered, under a kilobyte a scene.
    zones
        From `read_zones`.
    target
        Where the products lie.

    Returns
    -------
    dict
        Path of each output by its name.
    """
    counts = count(list(_touching(entries, zones)), zones, target)
    figures = [_figures(counts, zones, at) for at in range(len(zones.names))]
    ranks = _ranks(figures)
    with target.open_whole("zones.parquet") as file:
        _write_table(file, _records(figures, ranks), zones)
    with target.open_whole("zones.geojson") as file:
        file.writelines(text.encode() for text in _geojson(_records(figures, ranks), zones, counts.unread))
    with target.open_whole("zones.html") as file:
        write_page(file, _page(figures, counts.unread), _rows(figures, ranks, zones))
    return {"zones": "zones.html", "zones_table": "zones.parquet", "zones_map": "zones.geojson"}


def _touching(entries: Iterable[Entry], zones: Zones) -> Iterator[CountedScene]:
    """Yield the scenes that lie over a zone."""
    from shapely import STRtree
    from shapely.geometry import shape

    near = STRtree(zones.outlines)
    for entry in entries:
        result = entry.result
        outline = None if result is None else footprint_of(result.scene)
        if result is None or outline is None or result.status == "empty":
            continue
        if not len(near.query(shape(outline.geometry), predicate="intersects")):
            continue
        summary = result.summary
        unplaced = isinstance(summary, VolcanoSummary) and summary.label == "deformation" and not summary.detections
        rasters = {name: path for name, path in result.products.items() if path.endswith(".tif")}
        threshold = result.provenance.threshold
        yield CountedScene(entry.hazard, entry.id, outline, result.scene.acquired, rasters, threshold, unplaced)


def _figures(counts: Counts, zones: Zones, at: int) -> ZoneFigures:
    flood, slides, volcano = (counts.sums.get((hazard, at), {}) for hazard in _KINDS)
    km2 = zones.km2[at]

    def seen(sums: Mapping[str, float]) -> float:
        # Pixel areas and the zone's own agree to 0.1 %: a zone that was seen whole is 1.
        return min(1.0, sums.get("observed", 0.0) / km2) if km2 else 0.0

    def known(sums: Mapping[str, float], name: str) -> float | None:
        return sums.get(name, 0.0) if sums.get("observed") else None

    water = known(flood, "flood")
    if not water and flood.get("unsplit") and not flood.get("permanent"):
        water = None
    state = "unknown"
    if volcano.get("observed"):
        state = "deforming" if volcano.get("deforming") else "suspected" if at in counts.unplaced else "stable"
    return ZoneFigures(
        zone=zones.names[at],
        zone_km2=km2,
        flood_observed_share=seen(flood),
        flood_km2=water,
        flood_share=None if water is None else min(1.0, water / flood["observed"]),
        unsplit_water_km2=known(flood, "unsplit"),
        landslide_observed_share=seen(slides),
        landslides_expected=known(slides, "expected"),
        slid_km2=known(slides, "slid"),
        volcano_observed_share=seen(volcano),
        volcano_state=state,
        volcano_probability=known(volcano, "probability"),
        deforming_km2=known(volcano, "deforming"),
    )


def _ranks(figures: Sequence[ZoneFigures]) -> dict[int, dict[str, int]]:
    """Return the rank of each zone where something was found, over all and by hazard."""
    lists = []
    for hazard in _KINDS:
        found = [(one.found[hazard][1], at) for at, one in enumerate(figures) if hazard in one.found]
        lists.append([at for _, at in sorted(found, key=lambda pair: (*(-figure for figure in pair[0]), pair[1]))])
    ranks = {at: {"rank": rank} for rank, at in enumerate(dict.fromkeys(interleave(lists)), 1)}
    for hazard, order in zip(_KINDS, lists, strict=True):
        for rank, at in enumerate(order, 1):
            ranks[at][f"{hazard}_rank"] = rank
    return ranks


def _records(figures: Sequence[ZoneFigures], ranks: Mapping[int, Mapping[str, int]]) -> Iterator[dict[str, Any]]:
    """Yield every figure by name."""
    for at, one in enumerate(figures):
        places = {name: ranks.get(at, {}).get(name) for name in ("rank", *(f"{hazard}_rank" for hazard in _KINDS))}
        known = {name: getattr(one, name) for name in ZoneFigures.__dataclass_fields__}
        yield {"zone": known.pop("zone"), **places, "finding": one.tone, "headline": one.headline, **known}


def _write_table(file: Any, records: Iterable[dict[str, Any]], zones: Zones) -> None:  # noqa: ANN401 - what pyarrow takes for a file
    import pyarrow as pa
    from pyarrow import parquet
    from shapely import to_wkb

    texts = {"zone", "finding", "headline", "volcano_state"}

    def kind(name: str) -> "pa.DataType":
        return pa.string() if name in texts else pa.int64() if name.endswith("rank") else pa.float64()

    rows = [record | {"geometry": to_wkb(zones.outlines[at])} for at, record in enumerate(records)]
    fields = [(name, pa.binary() if name == "geometry" else kind(name)) for name in rows[0]]
    # GeoParquet 1.1: without a CRS of its own a column is longitude and latitude (OGC:CRS84).
    geo = {"encoding": "WKB", "geometry_types": ["Polygon", "MultiPolygon"]}
    facts = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": geo}}
    schema = pa.schema(fields, metadata={"geo": json.dumps(facts)})
    parquet.write_table(pa.Table.from_pylist(rows, schema=schema), file, compression="zstd")


def _geojson(records: Iterable[dict[str, Any]], zones: Zones, unread: Sequence[str]) -> Iterator[str]:
    from shapely import to_geojson

    head = {"type": "FeatureCollection", "tocsin:overlap": OVERLAP, "tocsin:scenes_unread": list(unread)}
    yield json.dumps(head)[:-1] + ', "features": ['
    for at, record in enumerate(records):
        properties = json.dumps(record, allow_nan=False)
        shape = to_geojson(zones.outlines[at])
        yield ("," if at else "") + f'\n{{"type": "Feature", "properties": {properties}, "geometry": {shape}}}'
    yield "\n]}\n"


def _page(figures: Sequence[ZoneFigures], unread: Sequence[str]) -> Page:
    tones = [one.tone for one in figures]
    written = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
    tiles = [
        Tile("zones", f"{len(figures):,}"),
        Tile("something found", f"{tones.count('found'):,}", "found"),
        Tile("nothing observed", f"{tones.count('unknown'):,}", "unknown"),
        *([Tile("scenes not read", f"{len(unread):,}", "failed")] if unread else []),
    ]
    lost = (f"Not counted, as their rasters could not be read: {', '.join(unread)}.",) if unread else ()
    return Page(
        title="Zones of a batch",
        subtitle=f"{len(figures):,} zones, written {written} UTC",
        noun="zone",
        search="Search zones and findings",
        columns=_COLUMNS,
        tones=TONES,
        tiles=tiles,
        notes=(*lost, *_NOTES),
        without_script="The same figures are in zones.parquet and zones.geojson.",
    )


def _rows(figures: Sequence[ZoneFigures], ranks: Mapping[int, Mapping[str, int]], zones: Zones) -> Iterator[Row]:
    from shapely import total_bounds
    from shapely.geometry import mapping

    west, south, east, north = total_bounds(zones.outlines).tolist()
    for at, one in enumerate(figures):
        rank = ranks.get(at, {}).get("rank")
        cells = (
            rank,
            one.zone,
            one.headline,
            one.flood_km2,
            one.flood_share,
            one.landslides_expected,
            one.volcano_state,
            one.observed_share,
        )
        # The first zones stand out: from 0.75 down to 0.3.
        weight = None if rank is None else round(0.75 - 0.45 * (rank - 1) / max(1, len(ranks) - 1), 3)
        rings = rings_of(mapping(zones.outlines[at]), max(east - west, north - south) / 4000)
        yield Row(cells=cells, tone=one.tone, rings=rings, more=_details(one, ranks.get(at, {})), weight=weight)


def _details(one: ZoneFigures, places: Mapping[str, int]) -> list[tuple[str, str]]:
    def area(km2: float | None) -> str:
        return "unknown" if km2 is None else km2_text(km2)

    known = [
        ("Area", km2_text(one.zone_km2)),
        ("Seen, flood", share_text(one.flood_observed_share)),
        ("Flood water", area(one.flood_km2)),
        ("Water without a reference", area(one.unsplit_water_km2)),
        ("Seen, landslide", share_text(one.landslide_observed_share)),
        ("Landslides expected", "unknown" if one.landslides_expected is None else f"{one.landslides_expected:,.1f}"),
        ("Slid ground", area(one.slid_km2)),
        ("Seen, volcano", share_text(one.volcano_observed_share)),
        ("Volcano", one.volcano_state),
        ("Deforming ground", area(one.deforming_km2)),
    ]
    return [
        *(
            (f"Place, {name.removesuffix('_rank')}" if name != "rank" else "Place", str(rank))
            for name, rank in places.items()
        ),
        *known,
    ]
