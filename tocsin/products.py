"""Flood products: one pass over strips of probability writes every file of a scene, and all appear or none."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from tocsin.chips import Strip
from tocsin.grid import Grid, Window
from tocsin.raster import Source
from tocsin.result import FloodSummary, ProductName, Provenance, ResultWarning


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the GeoTIFF tags say about the model: no times, no paths."""

    model: str
    version: str
    sha256: str
    precision: str
    licence: str
    tocsin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FloodRequest:
    """What to write, where, and with what beside the probability.

    Every `Source` lies on `grid` (use `tocsin.raster.align` or `rasterise`), one band; this module closes none of them.
    """

    out: Path
    scene_id: str
    grid: Grid
    threshold: float
    facts: ModelFacts
    pre: bool = False
    reference_water: Source | None = None
    dem: Source | None = None
    exclude: Source | None = None
    aoi: Source | None = None
    orbit_pass: Literal["ascending", "descending"] | None = None
    incidence_deg: float | None = None
    acquired: datetime | None = None
    pre_acquired: datetime | None = None
    overwrite: bool = False
    gpkg: bool = False


@dataclass(frozen=True, slots=True)
class FloodOutcome:
    """What was written."""

    products: dict[ProductName, str]
    summary: FloodSummary
    valid_fraction: float
    warnings: tuple[ResultWarning, ...]


class FloodProducts:
    """Writes the products of one scene.

    ``FloodProducts(request)`` refuses existing products at once (`ProductExistsError`) and makes no file; `consume` works strip by
    strip; `commit` renames everything into place, ``*_class.tif`` last; `discard` (or leaving the context without a
    commit) leaves nothing behind.
    """

    def __init__(self, request: FloodRequest) -> None:
        self._request = request

    def add_backdrop(self, grid: Grid, window: Window, vv_db: npt.NDArray[np.float32]) -> None:
        """Show VV of a window that was read anyway behind the quicklook; any thread, any order, any grid over the scene.

        Parameters
        ----------
        grid : Grid
            The grid that `window` refers to.
        window : Window
            Where `vv_db` lies; may reach outside.
        vv_db : numpy.ndarray
            float32 [height, width], dB, NaN = no data. Decimated at once.
        """
        raise NotImplementedError

    def consume(self, strips: Iterable[Strip]) -> None:
        """Take every strip of the scene in ascending order, without gaps, on the request's grid."""
        raise NotImplementedError

    def commit(self, provenance: Provenance, warnings: tuple[ResultWarning, ...] = ()) -> FloodOutcome:
        """Finish all files and rename them; `warnings` are those known before, returned together with those found here."""
        raise NotImplementedError

    def discard(self) -> None:
        """Remove every working file; safe to call twice and after `commit`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()
