"""What the scenes of all hazards read beside their own rasters, and how provenance knows a file."""

import hashlib
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tocsin.errors import NotCoveringError
from tocsin.grid import Grid
from tocsin.raster import Source, rasterise


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
