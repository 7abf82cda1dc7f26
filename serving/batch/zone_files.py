"""Zones: polygons with names, checked before a batch begins."""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from tocsin.errors import NoGeoreferenceError, UsageError
from tocsin.raster.locating import locate
from tocsin.raster.rasterised import vector_driver

NAMES: Final = re.compile(r"(?:shape)?name|name_(?P<gadm>\d)|adm(?P<ocha>\d)_(?:en|name)", re.IGNORECASE)
"""Columns that hold a name: plain, of geoBoundaries, of GADM, of OCHA; of several levels the deepest one."""

_EDGE_DEGREES: Final = 0.1
"""Longest edge when a zone is moved to degrees: straight edges of another CRS are curves there."""
_METRES_PER_DEGREE: Final = 111_000.0
_LATITUDE: Final = 90.0 + 1e-9
_LONGITUDE: Final = 540.0


@dataclass(frozen=True, slots=True, eq=False)
class Zones:
    """Polygons with names.

    Attributes
    ----------
    crs : str
        Of `shapes`.
    shapes : numpy.ndarray
        Shapely polygons and multipolygons, valid, as the file has them.
    outlines : numpy.ndarray
        The same in WGS 84 degrees.
    names : tuple of str
        Of each; its number in the file where the file has no name.
    km2 : tuple of float
        True area of each.
    """

    crs: str
    shapes: Any
    outlines: Any
    names: tuple[str, ...]
    km2: tuple[float, ...]


def read_zones(path: str | Path) -> Zones:
    """Read zones from a GeoPackage, GeoJSON, Shapefile or FlatGeobuf in any CRS.

    Zones may have holes, may overlap (each is counted for itself) and may be named alike. They are named by a column
    called name, shapeName, NAME_n or ADMn_EN, else by their number in the file.

    Parameters
    ----------
    path
        Local file of one layer.

    Raises
    ------
    UsageError
        Nothing there, several layers, no zone, or a zone that is no valid polygon.
    NoGeoreferenceError
        No CRS, or coordinates that cannot be in it.
    ForbiddenReferenceError, NotARasterError
        A URL or an XML document; no vector file.
    """
    import pyogrio
    from pyogrio.errors import DataSourceError
    from shapely import from_wkb

    name, found = str(path), locate(path)
    driver = vector_driver(found, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what pyogrio warns about is checked below
            layers = [str(layer) for layer, kind in pyogrio.list_layers(found) if kind is not None]
            if len(layers) > 1:
                raise UsageError(
                    f"{name} with layers {', '.join(layers)}", "one layer of zones", "take one out with ogr2ogr"
                )
            meta, _, geometry, columns = pyogrio.raw.read(found, force_2d=True, layer=0)
    except (DataSourceError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(
            f"{name}, a {driver} file that cannot be read ({error})", "zones", "write it again with ogr2ogr"
        ) from error
    if geometry is None or not len(geometry):
        raise UsageError(f"{name} without a zone", "polygons", "pass a layer of polygons")
    if not meta["crs"]:
        raise NoGeoreferenceError(f"{name} without a CRS", "a CRS", "add it with ogr2ogr -a_srs (a Shapefile's .prj)")
    shapes = from_wkb(geometry)
    names = _names([str(field) for field in meta["fields"]], columns, len(shapes))
    _check(shapes, names, name)
    outlines = _outlines(shapes, str(meta["crs"]), name)
    return Zones(str(meta["crs"]), shapes, outlines, names, tuple(_km2(outline) for outline in outlines))


def _names(fields: Sequence[str], columns: Sequence[Any], count: int) -> tuple[str, ...]:
    """Return the name of each zone, from the deepest level that has one."""
    matches = [(match, at) for at, field in enumerate(fields) if (match := NAMES.fullmatch(field))]
    numbers = tuple(f"zone {number}" for number in range(1, count + 1))
    if not matches:
        return numbers
    _, at = max(matches, key=lambda found: (int(found[0]["gadm"] or found[0]["ocha"] or -1), -found[1]))
    known = (None if value is None or value != value else str(value).strip() for value in columns[at].tolist())  # noqa: PLR0124 - NaN is missing
    return tuple(value or number for value, number in zip(known, numbers, strict=True))


def _check(shapes: Any, names: Sequence[str], file: str) -> None:  # noqa: ANN401 - shapely array
    """Refuse what is no valid polygon, by name."""
    from shapely import get_type_id, is_empty, is_valid, is_valid_reason

    other = ~np.isin(get_type_id(shapes), (3, 6)) | is_empty(shapes)
    if other.any():
        raise UsageError(
            f"{file} with {int(other.sum())} features that are no polygon, {names[int(np.argmax(other))]} first",
            "a polygon for each zone",
            "leave them out, or buffer points and lines",
        )
    broken = ~is_valid(shapes)
    if broken.any():
        first = int(np.argmax(broken))
        raise UsageError(
            f"{file} with {int(broken.sum())} invalid zones, {names[first]} first ({is_valid_reason(shapes[first])})",
            "valid polygons",
            "repair them with ogr2ogr -makevalid and look at the outcome",
        )


def _outlines(shapes: Any, crs_text: str, file: str) -> Any:  # noqa: ANN401 - shapely arrays
    """Return zones in WGS 84."""
    from rasterio.crs import CRS
    from shapely import bounds, segmentize, transform

    from tocsin.grid import FloatArray, project

    crs, degrees = CRS.from_user_input(crs_text), CRS.from_epsg(4326)
    unit = 1.0 if crs.is_geographic else float(crs.units_factor[1]) / _METRES_PER_DEGREE

    def moved(points: FloatArray) -> FloatArray:
        lon, lat = project(crs, degrees, points[:, 0].copy(), points[:, 1].copy())
        return np.stack([lon, lat], axis=1)

    outlines = transform(segmentize(shapes, _EDGE_DEGREES / unit), moved)
    edges = np.asarray(bounds(outlines))
    inside = (np.abs(edges[:, [1, 3]]) <= _LATITUDE).all() and (np.abs(edges[:, [0, 2]]) <= _LONGITUDE).all()
    if not inside:
        raise NoGeoreferenceError(
            f"{file} with coordinates that have no place in its CRS",
            "the CRS that they are in",
            "set it with ogr2ogr",
        )
    return outlines


def _km2(outline: Any) -> float:  # noqa: ANN401 - shapely geometry
    """Return the true area of a zone in degrees, holes left out."""
    from pyproj import Geod
    from shapely.geometry.polygon import orient

    globe = Geod(ellps="WGS84")
    parts = (orient(part) for part in getattr(outline, "geoms", [outline]))
    return float(sum(globe.geometry_area_perimeter(part)[0] for part in parts)) / 1e6
