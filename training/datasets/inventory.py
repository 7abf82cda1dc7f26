"""Inventories of landslide points (CSV, GeoJSON, GeoPackage) and their density per cell.

A point is the head of one landslide. A cell counts the points from its left to before its right edge and from its upper
to before its lower edge, so that no point counts twice; density is per true area of the cell.
"""

import csv
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from rasterio.crs import CRS
from rasterio.errors import CRSError

from tocsin.errors import NoGeoreferenceError, NotARasterError, UsageError, WrongUnitsError
from tocsin.grid import Grid, project
from tocsin.raster.locating import locate
from tocsin.raster.rasterised import is_vector

LONGITUDES: Final = ("longitude", "lon", "long", "lng")
LATITUDES: Final = ("latitude", "lat")
SAME_POINT_M: Final = 0.1
"""Points closer than this, along both axes, are one landslide that is listed twice."""
DEGREE_M: Final = 111_320.0
DELIMITERS: Final = (",", ";", "\t")
POINT_TYPES: Final = (0, 4)
"""Shapely's numbers of points and of several points in one feature."""


class InventoryOptions(BaseModel):
    """How a file of points is read, where it does not say so itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    crs: str | None = Field(
        None, min_length=1, description="CRS of the coordinates; None: the file's own; CSV: WGS 84 for lon and lat"
    )
    columns: tuple[str, str] | None = Field(
        None,
        description="CSV columns of x and y (or longitude and latitude); None: found by the names lon and lat, x and y",
    )
    where: tuple[str, str] | None = Field(
        None, description="column and the value that rows must hold, for files that also list places without landslides"
    )


@dataclass(frozen=True)
class Inventory:
    """The landslides of a file.

    Attributes
    ----------
    name
        Of the file.
    crs
        Of the coordinates.
    x, y
        float64 [landslide], units of `crs`; each landslide once.
    duplicates
        Points that were left out because the same place was listed before.
    invalid
        Rows without a point: empty, not a number, or not finite.
    """

    name: str
    crs: CRS
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    duplicates: int
    invalid: int


@dataclass(frozen=True)
class CellCounts:
    """Landslides per cell.

    Attributes
    ----------
    grid
        The cells.
    count
        int32 [row, col], landslides.
    density_per_km2
        float32 [row, col], landslides per km2 of true area.
    inside, outside
        Landslides on and off the grid.
    """

    grid: Grid
    count: NDArray[np.int32]
    density_per_km2: NDArray[np.float32]
    inside: int
    outside: int


def read_inventory(path: str | Path, options: InventoryOptions | None = None) -> Inventory:
    """Read a file of points.

    Parameters
    ----------
    path
        CSV with a header (comma, semicolon or tab between columns), or the first layer of a vector file of points:
        GeoJSON, GeoPackage, Shapefile or FlatGeobuf.
    options
        What the file does not say.

    Raises
    ------
    UsageError
        Nothing there, no such column, or no point in it: lines and polygons have no head that is known.
    NotARasterError
        Neither text nor a vector file.
    NoGeoreferenceError
        Nobody says the CRS.
    WrongUnitsError
        Longitudes and latitudes that are none.
    """
    options = options or InventoryOptions()
    found = locate(path)
    if found.is_dir():
        raise UsageError(f"{path}, a folder", "a file of points", "pass the file itself")
    x, y, crs, rows = _vector_points(found, options) if is_vector(found) else _csv_points(found, options)
    finite = np.isfinite(x) & np.isfinite(y)
    x, y = x[finite], y[finite]
    if crs.is_geographic and len(x) and (np.abs(y).max() > 90 or np.abs(x).max() > 360):
        raise WrongUnitsError(
            f"{path} with coordinates to {np.abs(x).max():.6g}, {np.abs(y).max():.6g} in {crs.to_string()}",
            "longitude and latitude in degrees, in this order",
            "name the CRS of the coordinates, or exchange the two columns",
        )
    step = SAME_POINT_M / (DEGREE_M if crs.is_geographic else float(crs.units_factor[1]))
    places = np.round(np.stack([x, y], axis=1) / step)
    first = np.sort(np.unique(places, axis=0, return_index=True)[1])
    return Inventory(found.name, crs, x[first], y[first], len(x) - len(first), rows - len(x))


def count_per_cell(inventory: Inventory, grid: Grid) -> CellCounts:
    """Count landslides on the cells of a grid in any CRS.

    Parameters
    ----------
    inventory
        The landslides.
    grid
        Cells, for example `tocsin.hazards.landslide.cell_grid` of a scene: 640 x 640 m.
    """
    xs, ys = project(inventory.crs, grid.crs, inventory.x, inventory.y)
    # A point without a place in the grid's CRS is NaN, which no comparison below lets in.
    cols = (xs - grid.transform.c) / grid.transform.a
    rows = (ys - grid.transform.f) / grid.transform.e
    inside = (cols >= 0) & (cols < grid.width) & (rows >= 0) & (rows < grid.height)
    count = np.zeros(grid.shape, dtype=np.int32)
    np.add.at(count, (rows[inside].astype(np.intp), cols[inside].astype(np.intp)), 1)
    density = (count / grid.pixel_area_km2(0, grid.height)).astype(np.float32)
    held = int(inside.sum())
    return CellCounts(grid, count, density, held, len(xs) - held)


Points = tuple[NDArray[np.float64], NDArray[np.float64], CRS, int]
"""x, y, their CRS, and how many rows there were."""


def _csv_points(path: Path, options: InventoryOptions) -> Points:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header = file.readline()
            file.seek(0)
            reader = csv.DictReader(file, delimiter=max(DELIMITERS, key=header.count))
            rows, names = list(reader), list(reader.fieldnames or [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise NotARasterError(
            f"{path}, which is no text ({error})", "CSV, GeoJSON or GeoPackage", "convert it with ogr2ogr"
        ) from error
    x_name, y_name, is_lonlat = _columns(path, names, options)
    if options.where is not None:
        _need(path, names, (options.where[0],))
        rows = [row for row in rows if (row[options.where[0]] or "").strip() == options.where[1]]
    if options.crs is None and not is_lonlat:
        raise NoGeoreferenceError(
            f"{path} with coordinates in {x_name} and {y_name}", "their CRS", "name it, for example EPSG:32717"
        )
    x, y = (np.array([_number(row[name]) for row in rows], dtype=np.float64) for name in (x_name, y_name))
    return x, y, _crs(options.crs or "EPSG:4326"), len(rows)


def _columns(path: Path, names: Sequence[str], options: InventoryOptions) -> tuple[str, str, bool]:
    """Return the columns of x and y, and whether they are longitude and latitude by their names."""
    by_name = {name.strip().lower(): name for name in names}
    lons, lats = ([by_name[name] for name in known if name in by_name] for known in (LONGITUDES, LATITUDES))
    if options.columns is not None:
        _need(path, names, options.columns)
        return *options.columns, options.columns[0] in lons and options.columns[1] in lats
    if len(lons) == 1 and len(lats) == 1:
        return lons[0], lats[0], True
    if not lons and not lats and {"x", "y"} <= by_name.keys():
        return by_name["x"], by_name["y"], False
    raise UsageError(
        f"{path} with columns {', '.join(names) or 'none'}",
        "one column each of longitude and latitude, or of x and y",
        "name the two columns",
    )


def _need(path: Path, names: Sequence[str], wanted: Sequence[str]) -> None:
    missing = [name for name in wanted if name not in names]
    if missing:
        raise UsageError(
            f"{path} with columns {', '.join(names) or 'none'}", f"column {missing[0]}", "name a column that is there"
        )


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")


def _vector_points(path: Path, options: InventoryOptions) -> Points:
    import pyogrio
    from pyogrio.errors import DataSourceError
    from shapely import from_wkb, get_coordinates, get_parts, get_type_id

    column = None if options.where is None else options.where[0]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what pyogrio warns about is checked below
            meta, _, geometry, fields = pyogrio.raw.read(
                path, columns=[column] if column else [], force_2d=True, layer=0
            )
    except (DataSourceError, ValueError) as error:
        raise UsageError(f"{path}, which cannot be read ({error})", "a layer of points", "write it again") from error
    if geometry is None:
        raise UsageError(f"{path} without geometry", "points", "pass a layer of points")
    if options.where is not None:
        _need(path, list(meta["fields"]), (options.where[0],))
        geometry = geometry[np.array([str(value) == options.where[1] for value in fields[0]], dtype=bool)]
    shapes: Any = from_wkb(geometry)
    kinds = get_type_id(shapes)
    if not np.isin(kinds, (*POINT_TYPES, -1)).all():
        raise UsageError(f"{path} with lines or polygons", "points, the heads of landslides", "take one point of each")
    crs = options.crs or meta["crs"]
    if not crs:
        raise NoGeoreferenceError(f"{path} without a CRS", "a CRS", "name it, or add it with ogr2ogr -a_srs")
    parts = get_parts(shapes[kinds != -1])
    empty = int((kinds == -1).sum())
    x, y = get_coordinates(parts).T
    return x, y, _crs(str(crs)), len(parts) + empty


def _crs(text: str) -> CRS:
    try:
        return CRS.from_user_input(text)
    except CRSError as error:
        raise NoGeoreferenceError(f"CRS {text!r}", "a CRS such as EPSG:32717", "check its name") from error
