"""STAC item of a scene's products: where, when, what each file holds and how it was made.

Time: with a known acquisition ``datetime`` is its time. Without one it is null, and the range runs from the launch of
the first Sentinel-1 to the moment of processing: the scene lies in it for certain, and nothing narrower is known. An
interferogram is of two acquisitions: ``datetime`` is the later one, and the range runs from the earlier one to it.
A landslide map is of several: ``datetime`` is that of the scene, and the range runs from the first to the last one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from tocsin.chips import PROBABILITY_NODATA, PROBABILITY_SCALE
from tocsin.grid import Grid
from tocsin.hazards.classes import NO_DATA, ClassFacts
from tocsin.result import (
    AnomalySummary,
    FloodSummary,
    Hazard,
    LandslideSummary,
    ProductName,
    Provenance,
    ResultWarning,
    VolcanoSummary,
)
from tocsin.terrain import LAYOVER, NOT_JUDGED, SHADOW, STEEP, USER

MISSION_START: Final = datetime(2014, 4, 3, 21, 2, tzinfo=UTC)
"""Launch of Sentinel-1A: no scene is older."""

EXTENSIONS: Final = (
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/raster/v1.1.0/schema.json",
    "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
    "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
)

_COG: Final = "image/tiff; application=geotiff; profile=cloud-optimized"
_KINDS: Final[dict[ProductName, tuple[str, list[str]]]] = {
    "class": (_COG, ["data"]),
    "probability": (_COG, ["data"]),
    "density": (_COG, ["data"]),
    "mask": (_COG, ["data"]),
    "anomaly": (_COG, ["data"]),
    "exclusion": (_COG, ["data", "data-mask"]),
    "polygons": ("application/geo+json", ["data"]),
    "geopackage": ("application/geopackage+sqlite3", ["data"]),
    "quicklook": ("image/png", ["overview", "thumbnail"]),
}
"""Media type and roles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemWords:
    """What the items of one hazard have in common.

    Attributes
    ----------
    hazard : str
        Its name.
    title : str
        Goes before the scene id.
    lineage : str
        How the products come about.
    assets : mapping
        Title of each product.
    classes : mapping
        Codes of the class raster.
    """

    hazard: Hazard
    title: str
    lineage: str
    assets: Mapping[ProductName, str]
    classes: Mapping[int, ClassFacts]


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemFacts:
    """What an item says.

    Attributes
    ----------
    words : ItemWords
        Those of the hazard.
    scene_id : str
        Id of the item.
    grid : Grid
        Of the rasters.
    grids : mapping
        Grid of each raster that has another one.
    files : mapping
        File name of each product, beside the item.
    acquired, pre_acquired : datetime or None
        UTC times of the acquisitions, None when unknown or absent.
    span : tuple of datetime or None
        Of a pair: UTC time of the earlier acquisition, and when the later one ended at the latest, None when unknown.
    more : mapping
        Further properties.
    summary, provenance, warnings
        As in the result.
    """

    words: ItemWords
    scene_id: str
    grid: Grid
    files: Mapping[ProductName, str]
    acquired: datetime | None
    pre_acquired: datetime | None
    span: tuple[datetime, datetime | None] | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    grids: Mapping[ProductName, Grid] = field(default_factory=dict)
    summary: FloodSummary | LandslideSummary | VolcanoSummary | AnomalySummary
    provenance: Provenance
    warnings: tuple[ResultWarning, ...]


def write_item(path: Path, facts: ItemFacts) -> None:
    """Write the item's JSON; asset links are relative to it."""
    path.write_text(json.dumps(build_item(facts), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def build_item(facts: ItemFacts) -> dict[str, Any]:
    """Build the STAC 1.1 item as a dictionary."""
    from pystac import Asset, Item, Link

    geometry, bbox = footprint(facts.grid)
    start, end = facts.span or (None, None)
    if facts.acquired is None:
        start, end = start or MISSION_START, facts.provenance.started
    item = Item(
        id=facts.scene_id,
        geometry=geometry,
        bbox=bbox,
        datetime=facts.acquired,
        start_datetime=start,
        end_datetime=end,
        properties=_properties(facts),
        stac_extensions=list(EXTENSIONS),
    )
    for name, file in facts.files.items():
        media_type, roles = _KINDS[name]
        title, extra = facts.words.assets[name], _asset_fields(name, facts.words.classes)
        extra |= _place_fields(facts.grids[name]) if name in facts.grids else {}
        item.add_asset(name, Asset(f"./{file}", title, media_type=media_type, roles=roles, extra_fields=extra))
    for source in facts.provenance.inputs:
        fields = {"file:checksum": f"1220{source.sha256}"} if source.sha256 else {}
        item.add_link(Link("derived_from", source.href, title="Input", extra_fields=fields))
    built: dict[str, Any] = item.to_dict(include_self_link=False, transform_hrefs=False)
    return built


def footprint(grid: Grid) -> tuple[dict[str, Any], list[float]]:
    """Outline of a grid in WGS 84 (RFC 7946, cut at the antimeridian), and its bounding box (west > east across it)."""
    along = np.linspace(0, 1, 9)
    cols = np.concatenate([along, np.ones(9), along[::-1], np.zeros(9)]) * grid.width
    rows = np.concatenate([np.zeros(9), along, np.ones(9), along[::-1]]) * grid.height
    lon, lat = grid.lonlat(rows, cols)
    # Pixel rows run southwards: backwards is counter-clockwise.
    points = [*dict.fromkeys(zip(lon[::-1].round(7).tolist(), lat[::-1].round(7).tolist(), strict=True))]
    bbox = [min(x for x, _ in points), min(y for _, y in points), max(x for x, _ in points), max(y for _, y in points)]
    ring = [[x, y] for x, y in [*points, points[0]]]
    if bbox[0] >= -180 and bbox[2] <= 180 and bbox[2] - bbox[0] <= 180:
        return {"type": "Polygon", "coordinates": [ring]}, bbox
    import antimeridian
    from shapely.geometry import Polygon, mapping

    outline = antimeridian.fix_polygon(Polygon(ring), fix_winding=False, great_circle=False)
    geometry: dict[str, Any] = json.loads(json.dumps(mapping(outline)))
    return geometry, list(antimeridian.bbox(outline))


def _properties(facts: ItemFacts) -> dict[str, Any]:
    grid, provenance = facts.grid, facts.provenance
    epsg = grid.crs.to_epsg()
    properties: dict[str, Any] = {
        "title": f"{facts.words.title} {facts.scene_id}",
        "created": _stamp(provenance.started),
        **_place_fields(grid),
        "processing:level": "L3",
        "processing:software": {"tocsin": provenance.tocsin},
        "processing:lineage": facts.words.lineage,
        "tocsin:hazard": facts.words.hazard,
        "tocsin:provenance": provenance.model_dump(mode="json"),
        "tocsin:summary": facts.summary.model_dump(mode="json"),
        "tocsin:warnings": [warning.model_dump(mode="json") for warning in facts.warnings],
    }
    if facts.pre_acquired is not None:
        properties["tocsin:pre_acquired"] = _stamp(facts.pre_acquired)
    properties |= facts.more
    properties |= {"proj:code": f"EPSG:{epsg}"} if epsg else {"proj:code": None, "proj:wkt2": grid.crs.to_wkt()}
    return properties


def _place_fields(grid: Grid) -> dict[str, Any]:
    """Where pixels lie, by the projection extension; the item says the CRS."""
    return {
        "proj:shape": list(grid.shape),
        "proj:transform": [float(value) for value in tuple(grid.transform)[:6]],
        "proj:bbox": list(grid.bounds),
    }


def _stamp(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _asset_fields(name: ProductName, classes: Mapping[int, ClassFacts]) -> dict[str, Any]:
    """Bands and classes of a raster, by the raster (1.1) and classification (2.0) extensions."""
    if name == "class":
        band: dict[str, Any] = {"data_type": "uint8", "nodata": NO_DATA}
        return {"raster:bands": [band], "classification:classes": [_class(code, one) for code, one in classes.items()]}
    if name == "density":
        return {"raster:bands": [{"data_type": "float32", "nodata": "nan", "unit": "1/km2"}]}
    if name == "anomaly":
        return {"raster:bands": [{"data_type": "float32", "nodata": "nan", "unit": "1"}]}
    if name in {"probability", "mask"}:
        band = {
            "data_type": "uint16",
            "nodata": PROBABILITY_NODATA,
            "scale": PROBABILITY_SCALE,
            "offset": 0,
        }
        return {"raster:bands": [band]}
    if name == "exclusion":
        band = {"data_type": "uint8", "nodata": NOT_JUDGED}
        bits = {"layover": LAYOVER, "shadow": SHADOW, "steep": STEEP, "user": USER}
        return {"raster:bands": [band], "classification:bitfields": [_bit(*pair) for pair in bits.items()]}
    return {}


def _class(code: int, facts: ClassFacts) -> dict[str, Any]:
    described = {
        "value": code,
        "name": facts.name,
        "title": facts.title,
        "description": facts.title,
        "color_hint": "{:02X}{:02X}{:02X}".format(*facts.colour),
    }
    return described | ({"nodata": True} if code == NO_DATA else {})


def _bit(name: str, bit: int) -> dict[str, Any]:
    return {
        "name": name,
        "offset": bit.bit_length() - 1,
        "length": 1,
        "classes": [
            {"value": 0, "name": "clear", "description": f"no {name}"},
            {"value": 1, "name": name, "description": f"excluded: {name}"},
        ],
    }
