"""What the scenes of all hazards read beside their own rasters, and how provenance knows a file."""

import hashlib
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tocsin.errors import NotCoveringError, TooLargeError, WrongBandsError
from tocsin.grid import Grid
from tocsin.raster import Limits, Method, Source, align, open_raster, rasterise

VECTORS = frozenset({".geojson", ".json", ".gpkg", ".shp", ".fgb"})
"""File names that hold polygons; anything else is opened as a raster."""


class InputSource(Protocol):
    """A file that is read, for provenance."""

    @property
    def href(self) -> str:
        """What the caller passed."""

    def sha256(self) -> str:
        """SHA-256 of its bytes, streamed."""


@dataclass(frozen=True, slots=True)
class VectorFile:
    """A file of polygons."""

    href: str

    def sha256(self) -> str:
        """Return the SHA-256 of its bytes, streamed."""
        with Path(self.href).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def open_area(stack: ExitStack, path: Path, grid: Grid) -> Source:
    """Open polygons to which a result is limited, as a source of one band on `grid`: above 0 inside.

    Raises
    ------
    NotCoveringError
        They lie outside the grid.
    """
    area = stack.enter_context(rasterise(path, grid))
    if area.empty:
        raise NotCoveringError(f"area of interest {path}, outside the scene", "polygons that meet it", "check the area")
    return area


def model_grid_of(grid: Grid, gsd_m: tuple[float, float], target_m: float) -> Grid:
    """Return the scene's own grid when the model takes its pixels as they are, else one of the model's pixel size.

    Parameters
    ----------
    grid
        The scene's own.
    gsd_m
        Smallest and largest pixel size that the model takes as it is, m.
    target_m
        Pixel size of the model, m.

    Raises
    ------
    TooLargeError
        The scene would have too many pixels at the model's pixel size.
    """
    low, high = gsd_m
    if all(low <= size <= high for size in grid.pixel_size_m()):
        return grid
    resampled = grid.resampled(target_m)
    limit = Limits().max_pixels
    if resampled.height * resampled.width > limit:
        size_x, size_y = grid.pixel_size_m()
        raise TooLargeError(
            f"a scene of {grid.height} x {grid.width} px of {size_x:.4g} x {size_y:.4g} m, which is "
            f"{resampled.height} x {resampled.width} px at {target_m:g} m",
            f"at most {limit} px at the model's pixel size",
            "cut the scene into parts",
        )
    return resampled


def open_aligned(
    stack: ExitStack, href: str | None, grid: Grid, method: Method, files: list[InputSource]
) -> Source | None:
    """Open a raster of one band on `grid` and add it to `files`; None stays None."""
    if href is None:
        return None
    raster = stack.enter_context(open_raster(href))
    files.append(raster)
    if raster.count != 1:
        raise WrongBandsError(f"{href} with {raster.count} bands", "one band", "extract the band that is meant")
    return align(raster, grid, method)


def open_exclusion(stack: ExitStack, href: str | None, grid: Grid, files: list[InputSource]) -> Source | None:
    """Open a raster or polygons of what is excluded; its name says which of both it is."""
    if href is not None and Path(href).suffix.lower() in VECTORS:
        files.append(VectorFile(href))
        return stack.enter_context(rasterise(href, grid))
    return open_aligned(stack, href, grid, "nearest", files)
