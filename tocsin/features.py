"""Vector files of polygons: GeoJSON after RFC 7946 and, when asked for, a GeoPackage; both written while polygons come.

Coordinates are WGS 84 longitude and latitude with seven decimals (1 cm). Exteriors run counter-clockwise. What
crosses the antimeridian is cut there.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self, TextIO, cast

import numpy as np
import numpy.typing as npt

from tocsin.errors import StorageFullError
from tocsin.grid import Grid
from tocsin.polygons import PixelPolygon

_DECIMALS: Final = 7
_BATCH_CORNERS: Final = 50_000
"""Corners worth one call of the projection library; bounds the memory of waiting polygons."""
_STRAIGHT_M: Final = 640.0
"""Longest edge kept straight when a map projection is undone, m: it strays by under 1 cm up to 50 degrees latitude."""

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class FeatureUnits:
    """What the whole numbers of a `PixelPolygon` mean.

    Attributes
    ----------
    area_km2 : float
        Area of one unit of weight, km2.
    value : float
        Physical value of one unit of the summed values.
    """

    area_km2: float
    value: float


class MoreProperties(Protocol):
    """What else is known of polygons."""

    @property
    def kinds(self) -> Mapping[str, type]:
        """Type of each property, for the GeoPackage."""

    def of(self, polygon: PixelPolygon) -> Mapping[str, Any]:
        """Return them for one polygon; None where unknown."""


class FeatureWriter:
    """Writes polygons to a GeoJSON file and, optionally, a GeoPackage.

    Parameters
    ----------
    path : Path
        GeoJSON file to write.
    grid : Grid
        Of the raster that the polygons come from.
    units : FeatureUnits
        Of its weights and values.
    names : mapping of int to str
        Name of each class.
    geopackage : Path or None
        GeoPackage to write as well; its suffix must be ``.gpkg``.
    more : MoreProperties or None
        Adds properties.
    """

    def __init__(
        self,
        path: Path,
        grid: Grid,
        units: FeatureUnits,
        names: Mapping[int, str],
        geopackage: Path | None = None,
        more: MoreProperties | None = None,
    ) -> None:
        self.count = 0
        self._grid = grid
        self._units = units
        self._names = names
        self._geopackage = geopackage
        self._more = more
        self._waiting: list[PixelPolygon] = []
        self._corners = 0
        self._path = path
        self._file: TextIO = path.open("w", encoding="utf-8")
        self._write('{"type":"FeatureCollection","features":[')

    def add(self, polygon: PixelPolygon) -> None:
        """Take one polygon; it reaches the disk with its batch."""
        self._waiting.append(polygon)
        self._corners += sum(len(ring) for ring in polygon.rings)
        if self._corners >= _BATCH_CORNERS:
            self._flush()

    def close(self) -> None:
        """Write what waits and end the files; safe to call twice."""
        if self._file.closed:
            return
        self._flush()
        if self._geopackage is not None and not self.count:
            self._append_geopackage([], [])
        self._write("\n]}\n")
        self.abandon()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file; only `close` ends it properly."""
        self.abandon()

    def abandon(self) -> None:
        """Close the file as it is; whoever owns it removes it."""
        try:
            self._file.close()
        except OSError as error:
            raise self._full(error) from error

    def _flush(self) -> None:
        polygons, self._waiting, self._corners = self._waiting, [], 0
        if not polygons:
            return
        lonlat, ends = self._projected(polygons)
        digits = _digits(lonlat)
        bounds = iter(zip([0, *ends], ends, strict=False))
        properties = [self._properties(polygon) for polygon in polygons]
        shapes = []
        for polygon, facts in zip(polygons, properties, strict=True):
            spans = [slice(*next(bounds)) for _ in polygon.rings]
            rings = [lonlat[span] for span in spans]
            text = json.dumps(_cut(rings)) if _crosses(rings) else _polygon_text([digits[span] for span in spans])
            head = json.dumps({"type": "Feature", "id": facts["id"], "properties": facts}, separators=(",", ":"))
            self._write((",\n" if self.count else "\n") + head[:-1] + ',"geometry":' + text + "}")
            self.count += 1
            shapes.append(rings)
        if self._geopackage is not None:
            self._append_geopackage(shapes, properties)

    def _write(self, text: str) -> None:
        try:
            self._file.write(text)
        except OSError as error:
            raise self._full(error) from error

    def _full(self, error: OSError) -> StorageFullError:
        return StorageFullError(
            f"{self._path.parent}: {error}", "room for the polygons", "free space or choose another -o"
        )

    def _properties(self, polygon: PixelPolygon) -> dict[str, Any]:
        known: dict[str, Any] = {
            "id": polygon.first,
            "class": polygon.code,
            "class_name": self._names[polygon.code],
            "area_km2": round(polygon.weight * self._units.area_km2, 10),
            "probability": round(polygon.total / polygon.pixels * self._units.value, 4),
        }
        return known if self._more is None else {**known, **self._more.of(polygon)}

    def _projected(self, polygons: list[PixelPolygon]) -> tuple[FloatArray, list[int]]:
        """Longitude and latitude, float64 [point, 2], of all closed rings one after the other, and where each ends."""
        rings = [np.concatenate([ring, ring[:1]]) for polygon in polygons for ring in polygon.rings]
        sizes = np.array([len(ring) for ring in rings])
        points = np.concatenate(rings).astype(np.float64)
        if not self._grid.crs.is_geographic:
            points, sizes = _densified(points, sizes, max(1.0, _STRAIGHT_M / max(self._grid.pixel_size_m())))
        lonlat = np.stack(self._grid.lonlat(points[:, 0], points[:, 1]), axis=1)
        return np.round(lonlat, _DECIMALS), np.cumsum(sizes).tolist()

    def _append_geopackage(self, shapes: list[list[FloatArray]], properties: list[dict[str, Any]]) -> None:
        import pyogrio.raw
        import shapely
        from shapely.geometry import Polygon, shape

        path = cast("Path", self._geopackage)
        geometries = [shape(_cut(rings)) if _crosses(rings) else Polygon(rings[0], rings[1:]) for rings in shapes]
        fields: dict[str, type] = {
            "id": np.int64,
            "class": np.int32,
            "class_name": object,
            "area_km2": float,
            "probability": float,
        }
        fields.update({} if self._more is None else self._more.kinds)
        unknown = [np.array([row[name] is None for row in properties], dtype=bool) for name in fields]
        pyogrio.raw.write(
            path,
            geometry=shapely.to_wkb(np.array(geometries, dtype=object)),
            field_data=[
                np.array([_filled(row[name], kind) for row in properties], dtype=kind) for name, kind in fields.items()
            ],
            field_mask=[mask if mask.any() else None for mask in unknown],
            fields=list(fields),
            geometry_type="MultiPolygon",
            promote_to_multi=True,
            crs="EPSG:4326",
            driver="GPKG",
            layer="polygons",
            append=path.exists(),
        )


def _filled(value: Any, kind: type) -> Any:  # noqa: ANN401 - a property of any type
    """Stand in for an unknown value, which the mask hides."""
    return kind() if value is None and kind is not object else value


def _densified(points: FloatArray, sizes: IntArray, step: float) -> tuple[FloatArray, IntArray]:
    """Add points to closed rings that follow each other, so that no edge is longer than `step` pixels."""
    along = np.diff(points, axis=0, append=points[-1:])
    last = np.cumsum(sizes) - 1
    along[last] = 0
    pieces = np.maximum(1, np.ceil(np.abs(along).sum(axis=1) / step)).astype(np.int64)
    edge = np.repeat(np.arange(len(pieces)), pieces)
    part = np.arange(len(edge)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    inner: FloatArray = points[edge] + along[edge] * (part / pieces[edge])[:, None]
    return inner, np.add.reduceat(pieces, last - sizes + 1)


def _crosses(rings: list[FloatArray]) -> bool:
    west, east = float(rings[0][:, 0].min()), float(rings[0][:, 0].max())
    return west < -180 or east > 180 or east - west > 180


def _digits(lonlat: FloatArray) -> npt.NDArray[np.uint8]:
    """Text of points, ASCII [point, 28] padded with blanks: ten times as fast as one float after the other."""
    stored = np.rint(lonlat * 10**_DECIMALS).astype(np.int64)
    rest = np.abs(stored)
    text = np.full((len(lonlat), 2, 14), ord(" "), dtype=np.uint8)
    text[:, 0, 0], text[:, 0, 13], text[:, 1, 13] = ord("["), ord(","), ord("]")
    text[:, :, 1][stored < 0] = ord("-")
    for place in range(12, 1, -1):
        if place == 12 - _DECIMALS:
            text[:, :, place] = ord(".")
            continue
        following = rest // 10
        text[:, :, place] = rest - 10 * following + ord("0")
        rest = following
    text[:, :, 2][np.abs(stored) < 100 * 10**_DECIMALS] = ord(" ")
    text[:, :, 3][np.abs(stored) < 10 * 10**_DECIMALS] = ord(" ")
    return text.reshape(-1, 28)


def _polygon_text(rings: list[npt.NDArray[np.uint8]]) -> str:
    """GeoJSON of a polygon whose points `_digits` wrote."""
    texts = (ring.tobytes().translate(None, b" ").replace(b"][", b"],[").decode("ascii") for ring in rings)
    return '{"type":"Polygon","coordinates":[' + ",".join(f"[{text}]" for text in texts) + "]}"


def _cut(rings: list[FloatArray]) -> dict[str, Any]:
    import antimeridian
    from shapely.geometry import Polygon, mapping
    from shapely.geometry.polygon import orient

    # Straight in degrees, as the edges of a GeoJSON are; a great circle would leave the pixel's edge.
    whole = Polygon(rings[0], rings[1:])
    fixed = antimeridian.fix_polygon(whole, fix_winding=False, great_circle=False)
    parts = list(fixed.geoms) if fixed.geom_type == "MultiPolygon" else [fixed]
    turned = [json.loads(json.dumps(mapping(orient(part))))["coordinates"] for part in parts]
    rounded = [[[[round(x, _DECIMALS), round(y, _DECIMALS)] for x, y in ring] for ring in part] for part in turned]
    if len(rounded) == 1:
        return {"type": "Polygon", "coordinates": rounded[0]}
    return {"type": "MultiPolygon", "coordinates": rounded}
