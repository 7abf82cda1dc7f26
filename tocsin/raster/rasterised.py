"""Polygons (areas of interest, exclusions) burnt onto a grid, window by window."""

import json
import mmap
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from tocsin.errors import ForbiddenReferenceError, NoGeoreferenceError, NotARasterError, UsageError
from tocsin.grid import FloatArray, Grid, Window, project
from tocsin.raster.locating import first_bytes, is_markup, locate
from tocsin.raster.source import BandArray, ClosingSource

# First bytes of the formats that are read; every other OGR driver stays shut (OGR VRT, GML and KML name other files).
SIGNATURES = {
    b"SQLite format 3\x00": "GPKG",
    b"\x00\x00\x27\x0a": "ESRI Shapefile",
    b"fgb\x03": "FlatGeobuf",
}
MAX_BYTES = 256 * 2**20
# GDAL fetches a CRS that a GeoJSON object, at any depth and in any case, only refers to; an escape could hide the name.
MAY_REFER = re.compile(rb'"crs"|\\u', re.IGNORECASE)
MAX_CRS_BYTES = 64 * 2**20
# Longest edge after densification, in pixels: a straight edge of another CRS is a curve on the grid.
EDGE_PX = 64.0
MAX_EDGE_DEGREES = 0.1


class Rasterised(ClosingSource):
    """A `Source` of one band: 1 inside a polygon, 0 outside all of them, NaN outside the grid. Made by `rasterise`.

    Attributes
    ----------
    grid
        Where the pixels lie.
    empty
        True when no polygon touches the grid.
    """

    def __init__(self, grid: Grid, shapes: Any, *, all_touched: bool) -> None:  # noqa: ANN401 - shapely array
        from shapely import STRtree, box

        self.grid = grid
        self._all_touched = all_touched
        self._shapes = shapes
        self._tree = STRtree(shapes)
        self.empty = not len(self._tree.query(box(*grid.bounds), predicate="intersects"))

    def read(self, window: Window) -> BandArray:
        """Return the burnt polygons of a window.

        Returns
        -------
        ndarray
            float32 [1, row, col]: 1 inside, 0 outside, NaN outside the grid.
        """
        from rasterio.features import rasterize
        from shapely import box

        out = np.full((1, *window.shape), np.nan, dtype=np.float32)
        inside = window.intersection(self.grid.window)
        if inside is None:
            return out
        part = self.grid.crop(inside)
        near = [self._shapes[index] for index in np.sort(self._tree.query(box(*part.bounds)))]
        burnt = np.zeros(inside.shape, dtype=np.uint8)
        if near:
            rasterize(near, out=burnt, transform=part.transform, all_touched=self._all_touched, default_value=1)
        row, col = inside.row - window.row, inside.col - window.col
        out[0, row : row + inside.height, col : col + inside.width] = burnt
        return out


def rasterise(vector_path: str | Path, grid: Grid, *, all_touched: bool = False) -> Rasterised:
    """Open a vector file of polygons in any CRS.

    Parameters
    ----------
    vector_path
        GeoJSON, GeoPackage, Shapefile or FlatGeobuf; the first layer is read.
    grid
        Grid to burn onto.
    all_touched
        Burn every pixel that a polygon touches (exclusions), not only those whose centre lies inside.

    Raises
    ------
    UsageError
        Nothing there, no vector file, too large, or no polygon in it.
    ForbiddenReferenceError
        A URL, an XML document, or GeoJSON whose CRS is a link.
    NoGeoreferenceError
        A file that does not say its CRS.
    """
    name, path = str(vector_path), locate(vector_path)
    driver = vector_driver(path, name)
    geometries, crs = _polygons(path, name, driver)
    return Rasterised(grid, on_grid(geometries, crs, grid), all_touched=all_touched)


def is_vector(path: str | Path) -> bool:
    """Whether a file looks like a vector format that `rasterise` reads, by its first bytes."""
    found = locate(path)
    if found.is_dir():
        return False
    head = first_bytes(found)
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") or any(head.startswith(mark) for mark in SIGNATURES)


def vector_driver(path: Path, name: str) -> str:
    """Return the OGR driver of a vector file by its first bytes; refuse what is none, is too large or names others.

    Parameters
    ----------
    path, name
        Where it lies, and what the caller called it.

    Raises
    ------
    UsageError, ForbiddenReferenceError, NotARasterError
        As `rasterise`.
    """
    if path.is_dir():
        raise UsageError(f"{name}, a folder", "a vector file of polygons", "pass the file itself")
    if path.stat().st_size > MAX_BYTES:
        raise UsageError(
            f"{name} of {path.stat().st_size} bytes",
            f"at most {MAX_BYTES}",
            "clip the polygons to the scene with ogr2ogr",
        )
    head = first_bytes(path)
    for mark, driver in SIGNATURES.items():
        if head.startswith(mark):
            return driver
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        check_crs(path, name)
        return "GeoJSON"
    if is_markup(head):
        raise ForbiddenReferenceError(
            f"{name}, an XML document, which may name other files", "GeoJSON or GeoPackage", "convert it with ogr2ogr"
        )
    raise NotARasterError(
        f"{name}, which starts with {head[:8]!r}",
        "polygons in GeoJSON, GeoPackage, Shapefile or FlatGeobuf",
        "convert it with ogr2ogr",
    )


def check_crs(path: Path, name: str) -> None:
    """Refuse GeoJSON in which any object names its CRS in another way than by null or a name.

    Parameters
    ----------
    path
        The file.
    name
        How the user called it, for messages.

    Raises
    ------
    ForbiddenReferenceError
        A CRS that is a link, which GDAL would fetch, or of another form.
    UsageError
        No JSON, or too large to look.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if MAY_REFER.search(content) is None:
            return
        if len(content) > MAX_CRS_BYTES:
            raise UsageError(
                f"{name} of {len(content)} bytes, with a CRS or with escapes",
                f"at most {MAX_CRS_BYTES} bytes of such GeoJSON",
                "write it again with ogr2ogr -lco RFC7946=YES",
            )
        text = content[:]

    def check(pairs: list[tuple[str, object]]) -> dict[str, object]:
        for key, value in pairs:
            if key.lower() == "crs" and not _is_named(value):
                raise ForbiddenReferenceError(
                    f"{name}, whose CRS is a reference", "a CRS by name", "write it again with ogr2ogr -lco RFC7946=YES"
                )
        return dict(pairs)

    try:
        json.loads(text, object_pairs_hook=check)
    except ForbiddenReferenceError:
        raise
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name}, which is no JSON", "GeoJSON", "write it again with ogr2ogr") from error


def _is_named(crs: object) -> bool:
    if not isinstance(crs, dict):
        return crs is None
    properties = crs.get("properties")
    return crs.keys() == {"type", "properties"} and (
        crs["type"] in {"name", "EPSG"} and isinstance(properties, dict) and properties.keys() <= {"name", "code"}
    )


def _polygons(path: Path, name: str, driver: str) -> tuple[Any, str]:
    import pyogrio
    from pyogrio.errors import DataSourceError
    from shapely import from_wkb, get_type_id

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what pyogrio warns about is checked below
            meta, _, geometry, _ = pyogrio.raw.read(path, columns=[], force_2d=True, layer=0)
    except (DataSourceError, ValueError) as error:
        raise UsageError(
            f"{name}, a {driver} file that cannot be read ({error})", "polygons", "write it again"
        ) from error
    if geometry is None:
        raise UsageError(f"{name} without geometry", "polygons", "pass a layer of polygons")
    shapes = from_wkb(geometry)
    shapes = shapes[np.isin(get_type_id(shapes), (3, 6))]
    if len(shapes) == 0:
        raise UsageError(f"{name} without a polygon", "polygons", "buffer points and lines first")
    if not meta["crs"]:
        raise NoGeoreferenceError(f"{name} without a CRS", "a CRS", "add it with ogr2ogr -a_srs (a Shapefile's .prj)")
    return shapes, str(meta["crs"])


def on_grid(shapes: Any, crs_text: str, grid: Grid) -> Any:  # noqa: ANN401 - shapely arrays
    """Move polygons to the grid's CRS; edges are split first, and only as far as they matter near the grid.

    Parameters
    ----------
    shapes
        Array of shapely polygons.
    crs_text
        Their CRS.
    grid
        Where they are wanted; what lies far from it may be missing from the answer.
    """
    from rasterio.crs import CRS
    from shapely import segmentize, transform

    crs = CRS.from_user_input(crs_text)
    if crs == grid.crs:
        return shapes
    size = max(grid.pixel_size_m())
    metres = float(crs.units_factor[1]) if crs.is_projected else 111_000.0
    longest = min(EDGE_PX * size / metres, MAX_EDGE_DEGREES if crs.is_geographic else np.inf)

    def moved(points: FloatArray) -> FloatArray:
        xs, ys = project(crs, grid.crs, points[:, 0].copy(), points[:, 1].copy())
        return np.stack([xs, ys], axis=1)

    near = _near(shapes, crs, grid)
    out = transform(segmentize(near, longest), moved)
    return out[~np.isnan(_bounds(out)).any(axis=1)] if len(out) else out


def _near(shapes: Any, crs: Any, grid: Grid) -> Any:  # noqa: ANN401 - shapely arrays
    """Clip polygons of the world to the surroundings of the grid, so that splitting edges stays cheap."""
    from shapely import box, intersection, is_empty, make_valid

    lattice = np.meshgrid(np.linspace(0, grid.height, 33), np.linspace(0, grid.width, 33), indexing="ij")
    at = grid.transform
    xs, ys = project(grid.crs, crs, at.c + at.a * lattice[1], at.f + at.e * lattice[0])
    if not np.isfinite(xs).all() or (crs.is_geographic and np.ptp(xs) > 180):
        return shapes
    pad_x, pad_y = np.ptp(xs) * 0.05 + 1e-9, np.ptp(ys) * 0.05 + 1e-9
    window = box(xs.min() - pad_x, ys.min() - pad_y, xs.max() + pad_x, ys.max() + pad_y)
    cut = intersection(make_valid(shapes), window)
    return cut[~is_empty(cut)]


def _bounds(shapes: Any) -> FloatArray:  # noqa: ANN401 - shapely array
    from shapely import bounds

    return np.asarray(bounds(shapes), dtype=np.float64)
