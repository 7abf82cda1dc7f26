"""Where the scenes of a batch lie: outlines in WGS 84 from what the journal says, without opening a product."""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tocsin.result import SceneFacts

if TYPE_CHECKING:
    from rasterio.crs import CRS

    from tocsin.grid import Grid


@dataclass(frozen=True, slots=True)
class Footprint:
    """Outline of a scene.

    Attributes
    ----------
    geometry : dict
        GeoJSON Polygon or MultiPolygon, cut at the antimeridian.
    bbox : tuple of float
        West, south, east, north, degrees; west > east across the antimeridian.
    """

    geometry: dict[str, Any]
    bbox: tuple[float, float, float, float]

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Bounding box with west <= east: all longitudes where the scene crosses the antimeridian."""
        west, south, east, north = self.bbox
        return (west, south, east, north) if west <= east else (-180.0, south, 180.0, north)


def grid_of(scene: SceneFacts) -> "Grid | None":
    """Return the scene's grid; None where it has no place on Earth (a picture of phase)."""
    if not scene.crs:
        return None
    from affine import Affine

    from tocsin.grid import Grid

    (left, bottom, right, top), (height, width) = scene.bounds, scene.shape
    at = Affine((right - left) / width, 0.0, left, 0.0, (bottom - top) / height, top)
    return Grid(_crs(scene.crs), at, height, width)


def footprint_of(scene: SceneFacts) -> Footprint | None:
    """Return the scene's outline; None where it has no place on Earth."""
    from tocsin.stac import footprint

    grid = grid_of(scene)
    if grid is None:
        return None
    geometry, (west, south, east, north) = footprint(grid)
    return Footprint(geometry, (west, south, east, north))


def href(path: str) -> str:
    """Return a link from a page in the target's folder to a file below it.

    Parameters
    ----------
    path
        Relative to the target.

    Returns
    -------
    str
        Relative and quoted, so that no name of a scene can be read as a scheme, a query or markup.
    """
    return "./" + quote(path)


@lru_cache(maxsize=256)
def _crs(text: str) -> "CRS":
    """Return a CRS; the scenes of a batch share a few of them."""
    from rasterio.crs import CRS

    return CRS.from_user_input(text)
