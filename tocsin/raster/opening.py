"""Open one raster file, refusing what is hostile, and read it with one rule of validity."""

from pathlib import Path

from tocsin.grid import Grid, Window
from tocsin.raster.acquired import Acquired
from tocsin.raster.source import BandArray, ClosingSource, Limits


class Raster(ClosingSource):
    """One open raster file: a `Source` of all its bands but alpha.

    Attributes
    ----------
    href
        What the caller passed.
    path
        Absolute path.
    grid
        Where the pixels lie.
    descriptions
        One text per band, "" where the file has none.
    tags
        Dataset tags.
    """

    href: str
    path: Path
    grid: Grid
    descriptions: tuple[str, ...]
    tags: dict[str, str]

    @property
    def count(self) -> int:
        """Number of bands, alpha not counted."""
        return len(self.descriptions)

    @property
    def acquired(self) -> Acquired | None:
        """Acquisition time, None when unknown."""
        raise NotImplementedError

    def read(self, window: Window, bands: tuple[int, ...] | None = None) -> BandArray:
        """Return float32 [band, row, col], NaN where invalid or outside; ``bands`` counts from 0, default all."""
        raise NotImplementedError

    def sha256(self) -> str:
        """Return the SHA-256 of the file's bytes, streamed."""
        raise NotImplementedError


def open_raster(href: str | Path, limits: Limits | None = None) -> Raster:
    """Open a raster after the checks on hostile files."""
    raise NotImplementedError
