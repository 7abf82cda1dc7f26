"""A PNG picture of an interferogram as a source of wrapped phase, without a place on Earth."""

import hashlib
from functools import cached_property
from pathlib import Path

import numpy as np
from affine import Affine
from rasterio.crs import CRS

from tocsin.grid import Grid, Window
from tocsin.phase_pictures import read_picture
from tocsin.raster.locating import first_bytes, locate
from tocsin.raster.phase_files import AcquiredPair, acquired_pair
from tocsin.raster.source import BandArray, ClosingSource

PNG = b"\x89PNG\r\n\x1a\n"


class PictureFile:
    """The file of a picture, for provenance."""

    def __init__(self, href: str, path: Path) -> None:
        self.href = href
        self.path = path

    @cached_property
    def _digest(self) -> str:
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def sha256(self) -> str:
        """Return the SHA-256 of the file's bytes, streamed at the first call."""
        return self._digest


class Picture(ClosingSource):
    """A `Source` of one band: wrapped phase read off a picture, rad, (-pi, pi]. Made by `open_picture`.

    Attributes
    ----------
    href
        What the caller passed.
    file
        The file behind it, for provenance.
    grid
        Its pixels, without a CRS; origin in the lower left corner.
    """

    def __init__(self, href: str, path: Path) -> None:
        self.href = href
        self.file = PictureFile(href, path)
        # With its noise, as training and evaluation give pictures to the model: rasters hold noise as phase too.
        self._phase: BandArray = read_picture(path).noisy_phase
        height, width = self._phase.shape
        # y grows upwards, so that a GIS shows the products the right way up.
        self.grid = Grid(CRS(), Affine(1.0, 0.0, 0.0, 0.0, -1.0, height), height, width)

    @property
    def scene_id(self) -> str:
        """Name of the scene, from the file's name."""
        return self.file.path.stem

    @property
    def acquired(self) -> AcquiredPair:
        """When both acquisitions were made, as far as the name tells."""
        return acquired_pair(str(self.file.path), {})

    def read(self, window: Window) -> BandArray:
        """Return the wrapped phase of a window, float32 [1, row, col], rad, NaN where missing or outside."""
        out = np.full((1, *window.shape), np.nan, dtype=np.float32)
        inside = window.intersection(self.grid.window)
        if inside is not None:
            rows = slice(inside.row - window.row, inside.row_stop - window.row)
            cols = slice(inside.col - window.col, inside.col_stop - window.col)
            out[0, rows, cols] = self._phase[inside.row : inside.row_stop, inside.col : inside.col_stop]
        return out


def is_picture(href: str | Path) -> bool:
    """Whether a file is a PNG, judged by its first bytes.

    Raises
    ------
    UsageError, ForbiddenReferenceError
        Nothing there, or no local file.
    """
    path = locate(href)
    return path.is_file() and first_bytes(path, len(PNG)) == PNG


def open_picture(href: str | Path) -> Picture:
    """Read a picture of an interferogram.

    Raises
    ------
    WrongUnitsError
        It is drawn in none of the ways known (`tocsin.phase_pictures`).
    TocsinError
        And whatever `tocsin.phase_pictures.read_picture` raises.
    """
    return Picture(str(href), locate(href))
