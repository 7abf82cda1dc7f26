"""Report of a batch: ``report.html`` for people, ``report.parquet`` (GeoParquet) for programs; a row for each scene."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from serving.batch.findings import ORDER, km2_text, share_text
from serving.batch.footprints import Footprint, footprint_of, href
from serving.batch.ranks import Ranked, RankedEntries
from serving.batch.report_page import Column, Failure, Page, Row, Tile, rings_of, write_page
from tocsin.result import FloodSummary, Hazard, LandslideSummary, Result, VolcanoSummary

if TYPE_CHECKING:
    import pyarrow as pa

    from serving.batch.entry import Entry
    from serving.batch.target import Target

GROUP: Final = 1000
"""Rows of the table that are held before they are written."""

TONES: Final = {
    "found": "Something found",
    "unknown": "Nothing observed",
    "failed": "Failed",
    "nothing": "Nothing found",
}
"""What a row may be, in the order in which it is looked at."""

_COLUMNS: Final = (
    Column("Rank", "rank", "76px", "Where to go first: " + ORDER["all"]),
    Column("", "picture", "76px"),
    Column("Scene", "name", "20%"),
    Column("Hazard", "text", "96px", choose=True),
    Column("Finding", "finding", "auto"),
    Column("Seen", "share", "80px", "Share of the scene's pixels with a result"),
    Column("Acquired, UTC", "time", "164px"),
)
_NOTES: Final = (
    "Rank, flood: " + ORDER["flood"] + ".",
    "Rank, landslide: " + ORDER["landslide"] + ".",
    "Rank, volcano: " + ORDER["volcano"] + ".",
    "Rank over all: " + ORDER["all"] + ".",
    "“Nothing found” holds for what was seen only; “nothing observed” says nothing about the ground.",
    "Links and pictures are relative to this page: keep it in its folder.",
)
_FOUND: Final[dict[Hazard, str]] = {"flood": "flood or water", "landslide": "landslides", "volcano": "deformation"}
_SUMMARIES: Final = (FloodSummary, LandslideSummary, VolcanoSummary)
_LABELS: Final = {"item": "STAC item", "class": "Class raster", "polygons": "Polygons", "quicklook": "Quicklook"}


def write_report(entries: "Iterable[Entry]", target: "Target") -> dict[str, str]:
    """Write ``report.parquet``, then ``report.html``.

    Parameters
    ----------
    entries
        Each scene once; read once, as a stream.
    target
        Where the products lie.

    Returns
    -------
    dict
        Path of each output by its name.
    """
    with RankedEntries(entries) as ranked:
        tally = _Tally()
        with target.open_whole("report.parquet") as file:
            _write_table(file, (tally.counted(scene) for scene in ranked))
        with target.open_whole("report.html") as file:
            write_page(file, tally.page(ranked.found), (_row(scene) for scene in ranked))
    return {"report": "report.html", "report_table": "report.parquet"}


class _Tally:
    """Figures over all scenes."""

    def __init__(self) -> None:
        self._states: Counter[str] = Counter()
        self._codes: Counter[str] = Counter()
        self._km2 = 0.0

    def counted(self, scene: Ranked) -> Ranked:
        """Count a scene and return it."""
        self._states[_tone(scene)] += 1
        if scene.entry.error is not None:
            self._codes[scene.entry.error.code] += 1
        if scene.finding is not None:
            self._km2 += scene.finding.observed_km2 or 0.0
        return scene

    def page(self, found: Mapping[Hazard, int]) -> Page:
        """Return what the page says beside its rows."""
        total, failed = self._states.total(), self._states["failed"]
        tiles = [
            Tile("scenes", f"{total:,}"),
            Tile("observed, all scenes", km2_text(self._km2)),
            *(Tile(_FOUND[hazard], f"{count:,}", "found") for hazard, count in found.items() if count),
            *([Tile("nothing observed", f"{count:,}", "unknown")] if (count := self._states["unknown"]) else []),
            *([Tile("failed", f"{failed:,}", "failed")] if failed else []),
        ]
        written = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
        return Page(
            title="Batch report",
            subtitle=f"{total:,} scenes, written {written} UTC",
            noun="scene",
            search="Search scenes, findings, codes",
            columns=_COLUMNS,
            tones=TONES,
            tiles=tiles,
            failures=[Failure(code, count) for code, count in sorted(self._codes.items())],
            notes=_NOTES,
            without_script="The same rows are in report.parquet, the order in ranking.geojson.",
        )


def _tone(scene: Ranked) -> str:
    return "failed" if scene.finding is None else scene.finding.tone


def _row(scene: Ranked) -> Row:
    entry, result, error = scene.entry, scene.entry.result, scene.entry.error
    if result is None or scene.finding is None:
        assert error is not None, "a scene without a result has an error"
        said = f"{error.code}: {error.message}"
        cells = (None, None, entry.id, entry.hazard, said, None, None)
        return Row(cells=cells, tone="failed", more=_effort(entry))
    outline, acquired, products = footprint_of(result.scene), result.scene.acquired, result.products
    when = None if acquired is None else acquired.astimezone(UTC).strftime("%Y-%m-%dT%H:%M")
    return Row(
        cells=(
            scene.rank,
            None,
            entry.id,
            entry.hazard,
            scene.finding.headline,
            result.scene.valid_fraction,
            when,
        ),
        tone=scene.finding.tone,
        rings=() if outline is None else rings_of(outline.geometry, _tolerance(outline)),
        picture=href(products["quicklook"]) if "quicklook" in products else None,
        links=[(label, href(products[name])) for name, label in _LABELS.items() if name in products],
        more=_details(scene, result),
    )


def _tolerance(outline: Footprint) -> float:
    """Return how far the drawn outline may stray, degrees: a thousandth of the scene's height."""
    return (outline.bbox[3] - outline.bbox[1]) / 1000


def _details(scene: Ranked, result: Result) -> list[tuple[str, str]]:
    made, finding = result.provenance, scene.finding
    assert finding is not None, "a scene with a result has a finding"
    seen = result.scene.valid_fraction
    place = f"{scene.hazard_rank} of its hazard, {scene.rank} over all" if scene.rank else "nothing found, no rank"
    return [
        ("Place", place),
        *(("Why", reason) for reason in finding.reasons),
        ("Observed", "unknown" if finding.observed_km2 is None else km2_text(finding.observed_km2)),
        ("Seen", "unknown" if seen is None else share_text(seen)),
        *(("Warning", warning.message) for warning in result.warnings),
        ("Model", f"{made.model} {made.version}, {made.precision}, {made.runtime} on {made.device}"),
        ("CRS", result.scene.crs or "none: a picture of phase"),
        *_effort(scene.entry),
    ]


def _effort(entry: "Entry") -> list[tuple[str, str]]:
    return [("Priority", f"{entry.priority:g}"), ("Attempts", str(entry.attempts)), ("Seconds", f"{entry.seconds:.1f}")]


def _write_table(file: Any, scenes: Iterable[Ranked]) -> None:  # noqa: ANN401 - what pyarrow takes for a file
    import pyarrow as pa
    from pyarrow import parquet

    schema = _schema()
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for group in _groups(scenes):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))


def _groups(scenes: Iterable[Ranked]) -> Iterator[list[dict[str, Any]]]:
    group: list[dict[str, Any]] = []
    for scene in scenes:
        group.append(_record(scene))
        if len(group) == GROUP:
            yield group
            group = []
    if group:
        yield group


def _schema() -> "pa.Schema":
    """Return the columns: of the journal, of the result, every figure of every hazard, and the outline."""
    import pyarrow as pa

    text, number, whole = pa.string(), pa.float64(), pa.int64()
    kinds = {name: number for summary in _SUMMARIES for name in summary.model_fields}
    kinds |= dict.fromkeys(("polygons", "cells", "low_cells", "high_cells", "detections"), whole)
    kinds |= dict.fromkeys(("label", "source"), text)
    kinds["expected_landslides_interval"] = pa.list_(number)
    head = dict.fromkeys(("id", "hazard", "state", "finding", "headline", "code", "message"), text)
    scene = {"rank": whole, "hazard_rank": whole, "priority": number, "attempts": whole, "seconds": number}
    scene |= {"acquired": pa.timestamp("us", tz="UTC"), "crs": text, "height": whole, "width": whole}
    scene |= {"valid_fraction": number, "warnings": pa.list_(text)}
    made = dict.fromkeys(("model", "version", "model_sha256", "precision", "runtime", "device", "key"), text)
    products = dict.fromkeys(("item", "class", "polygons_file", "quicklook"), text)
    columns = {**head, **scene, **kinds, **made, **products, "geometry": pa.binary()}
    # GeoParquet 1.1: without a CRS of its own a column is longitude and latitude (OGC:CRS84).
    geo = {"encoding": "WKB", "geometry_types": ["Polygon", "MultiPolygon"]}
    facts = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": geo}}
    return pa.schema(list(columns.items()), metadata={"geo": json.dumps(facts)})


def _record(scene: Ranked) -> dict[str, Any]:
    """Return a row of the table; a column that is not named is null."""
    entry, result, error = scene.entry, scene.entry.result, scene.entry.error
    record: dict[str, Any] = {
        "id": entry.id,
        "hazard": entry.hazard,
        "state": entry.state,
        "finding": _tone(scene),
        "rank": scene.rank,
        "hazard_rank": scene.hazard_rank,
        "priority": entry.priority,
        "attempts": entry.attempts,
        "seconds": entry.seconds,
        "key": entry.key,
    }
    if error is not None:
        record |= {"code": error.code, "message": error.message}
    if result is None or scene.finding is None:
        return record
    made, products = result.provenance, result.products
    record |= {"headline": scene.finding.headline, "acquired": result.scene.acquired, "crs": result.scene.crs}
    record |= {"height": result.scene.shape[0], "width": result.scene.shape[1]}
    record |= {"valid_fraction": result.scene.valid_fraction, "warnings": [one.message for one in result.warnings]}
    record |= dict(result.summary)
    record |= {"model": made.model, "version": made.version, "model_sha256": made.sha256}
    record |= {"precision": made.precision, "runtime": made.runtime, "device": made.device}
    record |= {name: products.get(name) for name in ("item", "class", "quicklook")}
    record["polygons_file"] = products.get("polygons")
    outline = footprint_of(result.scene)
    if outline is not None:
        from shapely import to_wkb
        from shapely.geometry import shape

        record["geometry"] = to_wkb(shape(outline.geometry))
    return record
