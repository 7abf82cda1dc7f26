"""Flood products: one pass over strips of probability writes every file of a scene, and all appear or none."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

import numpy as np
import numpy.typing as npt

from tocsin.chips import PROBABILITY_NODATA, PROBABILITY_SCALE, Strip
from tocsin.features import FeatureUnits, FeatureWriter
from tocsin.flood_request import (
    FloodRequest,
    ModelFacts,
    class_spec,
    exclusion_spec,
    found_warnings,
    item_facts,
    probability_spec,
    quicklook_facts,
)
from tocsin.grid import Grid, Window
from tocsin.hazards.flood import CLASSES, WATER_CLASSES, AreaTally, ClassArray, decide, permanence, split
from tocsin.polygons import PolygonBuilder
from tocsin.product_files import ProductFiles
from tocsin.raster import RasterWriter
from tocsin.result import FloodSummary, ProductName, Provenance, ResultWarning
from tocsin.sieve import sieve
from tocsin.terrain import NOT_JUDGED, USER, BitArray, Terrain
from tocsin.thumbnail import Backdrop, ClassThumbnail

__all__ = ["FloodOutcome", "FloodProducts", "FloodRequest", "ModelFacts"]

_PIECE_PIXELS: Final = 2**21
"""Pixels worked on at once: more would only cost memory."""


Kind = TypeVar("Kind", bound=np.generic)


@dataclass(frozen=True, slots=True)
class FloodOutcome:
    """What was written."""

    products: dict[ProductName, str]
    summary: FloodSummary
    valid_fraction: float
    warnings: tuple[ResultWarning, ...]


@dataclass(frozen=True, slots=True)
class _Rows:
    """Some rows on their way: classes, probability, and `permanence` where water is split; all [height, width]."""

    row: int
    codes: ClassArray
    probability: npt.NDArray[np.uint16]
    permanent: ClassArray | None


class _Rechunked(Generic[Kind]):
    """Rows of an array that come in chunks of any height, handed out in others."""

    def __init__(self, chunks: Iterable[npt.NDArray[Kind]]) -> None:
        self._chunks = iter(chunks)
        self._held: npt.NDArray[Kind] | None = None

    def take(self, rows: int) -> npt.NDArray[Kind]:
        """Return the next rows: [rows, width]."""
        held = [] if self._held is None else [self._held]
        while sum(map(len, held)) < rows:
            held.append(next(self._chunks))
        joined = held[0] if len(held) == 1 else np.concatenate(held)
        self._held = joined[rows:]
        return joined[:rows]


def fan_out(items: Iterator[_Rows], count: int) -> tuple[Iterator[_Rows], ...]:
    """Return `count` iterators over the same items, which hold only what some of them have not had yet.

    `itertools.tee` would keep up to 57 items that all have had: a whole scene, if items are strips.
    """
    waiting: list[deque[_Rows]] = [deque() for _ in range(count)]

    def follow(own: deque[_Rows]) -> Iterator[_Rows]:
        while True:
            if not own:
                item = next(items, None)
                if item is None:
                    return
                for each in waiting:
                    each.append(item)
                del item
            yield own.popleft()

    return tuple(follow(own) for own in waiting)


class FloodProducts:
    """Writes the products of one scene.

    ``FloodProducts(request)`` refuses existing products at once (`ProductExistsError`) and makes no file; `consume`
    works strip by strip; `commit` renames everything into place, ``*_class.tif`` last; `discard` (or leaving the
    context without a commit) leaves nothing behind.
    """

    def __init__(self, request: FloodRequest) -> None:
        self._request = request
        self._files = ProductFiles(request.out, request.scene_id, overwrite=request.overwrite)
        self._backdrop = Backdrop()
        self._picture = ClassThumbnail(request.grid.shape, tuple(CLASSES))
        self._tally = AreaTally(request.grid)
        self._judged = self._valid = 0
        self._count = 0

    @property
    def _is_split(self) -> bool:
        return self._request.pre or self._request.reference_water is not None

    @property
    def _judged_share(self) -> float | None:
        """Share of the valid pixels that the DEM has a height for; None without a DEM or a valid pixel."""
        return self._judged / self._valid if self._valid else None

    @property
    def _has_exclusion(self) -> bool:
        return self._request.dem is not None or self._request.exclude is not None

    def add_backdrop(self, grid: Grid, window: Window, vv_db: npt.NDArray[np.float32]) -> None:
        """Show VV of a window that was read anyway behind the quicklook: from one thread, in any order.

        Parameters
        ----------
        grid : Grid
            The grid that `window` refers to, always the same.
        window : Window
            Where `vv_db` lies; may reach outside.
        vv_db : numpy.ndarray
            float32 [height, width], dB, NaN = no data. Decimated at once.
        """
        self._backdrop.add(grid, window, vv_db)

    def consume(self, strips: Iterable[Strip]) -> None:
        """Take every strip of the scene in ascending order, without gaps, on the request's grid."""
        request, files = self._request, self._files
        classes = files.raster("class", request.grid, class_spec(request))
        geopackage = files.working("geopackage") if request.gpkg else None
        units = FeatureUnits(self._tally.unit_km2, PROBABILITY_SCALE)
        names = {code: CLASSES[code].name for code in WATER_CLASSES}
        features = FeatureWriter(files.working("polygons"), request.grid, units, names, geopackage)
        builder = PolygonBuilder(request.grid.width, WATER_CLASSES)
        with features:
            for rows in self._sieved(self._decided(strips)):
                self._write(rows, classes, builder, features)
            for polygon in builder.finish():
                features.add(polygon)
            features.close()
        self._count = features.count

    def _decided(self, strips: Iterable[Strip]) -> Iterator[_Rows]:
        """Write probability and exclusion, and decide classes before the sieve."""
        request, files = self._request, self._files
        probabilities = files.raster("probability", request.grid, probability_spec(request))
        exclusion = files.raster("exclusion", request.grid, exclusion_spec(request)) if self._has_exclusion else None
        terrain = Terrain(request.grid, request.orbit_pass, request.incidence_deg) if request.dem else None
        for strip in strips:
            window = Window(strip.row, 0, len(strip.probability), request.grid.width)
            probability = strip.probability
            if request.aoi is not None:
                probability = np.where(request.aoi.read(window)[0] > 0, probability, np.uint16(PROBABILITY_NODATA))
            probabilities.write_rows(strip.row, probability)
            blocked = None
            if exclusion is not None:
                bits = self._excluded(window, terrain, probability)
                exclusion.write_rows(strip.row, bits)
                blocked = (bits != 0) & (bits != NOT_JUDGED)
            reference = None if request.reference_water is None else request.reference_water.read(window)[0]
            permanent = permanence(strip.pre_probability, reference, request.threshold)
            yield _Rows(strip.row, decide(probability, request.threshold, blocked), probability, permanent)

    def _excluded(self, window: Window, terrain: Terrain | None, probability: npt.NDArray[np.uint16]) -> BitArray:
        """Bits of some rows; counts for how many of the valid pixels the DEM has a height."""
        request = self._request
        bits = np.zeros(window.shape, dtype=np.uint8)
        if terrain is not None and request.dem is not None:
            bits = terrain.judge(request.dem, window.row, window.height)
            valid = probability != PROBABILITY_NODATA
            self._valid += int(np.count_nonzero(valid))
            self._judged += int(np.count_nonzero(valid & (bits != NOT_JUDGED)))
        if request.exclude is not None:
            by_user = request.exclude.read(window)[0] > 0
            # What the user excluded is decided, whatever the DEM does not know.
            bits[by_user] = np.where(bits[by_user] == NOT_JUDGED, 0, bits[by_user]) | USER
        return bits

    def _sieved(self, decided: Iterator[_Rows]) -> Iterator[_Rows]:
        """Sieve classes, fill such holes in permanent water too, and join both with the probability, in pieces."""
        # The copies run a few rows apart: that is all that they hold.
        copies = fan_out(decided, 3 if self._is_split else 2)
        classes = sieve((rows.row, rows.codes) for rows in copies[0])
        values = _Rechunked(rows.probability for rows in copies[1])
        lasting = None
        if self._is_split:
            # A hole that is filled must not turn into flood for being a hole in permanent water too.
            strips = ((rows.row, rows.permanent) for rows in copies[2] if rows.permanent is not None)
            lasting = _Rechunked(rows for _, rows in sieve(strips, keep_specks=True))
        most = max(1, _PIECE_PIXELS // self._request.grid.width)
        for row, codes in classes:
            for start in range(0, len(codes), most):
                part = codes[start : start + most]
                permanent = None if lasting is None else lasting.take(len(part))
                yield _Rows(row + start, part, values.take(len(part)), permanent)

    def _write(self, rows: "_Rows", classes: RasterWriter, builder: PolygonBuilder, features: FeatureWriter) -> None:
        codes = split(rows.codes, rows.permanent)
        classes.write_rows(rows.row, codes)
        weights = self._tally.weights(rows.row, len(codes))
        self._tally.add(codes, weights)
        self._picture.add(rows.row, codes)
        for polygon in builder.add(codes, rows.probability, weights):
            features.add(polygon)

    def commit(self, provenance: Provenance, warnings: tuple[ResultWarning, ...] = ()) -> FloodOutcome:
        """Finish all files and rename them.

        Parameters
        ----------
        provenance : Provenance
            Goes into the item.
        warnings : tuple of ResultWarning
            What was known before; returned together with what was found here.
        """
        from tocsin.quicklook import write_quicklook
        from tocsin.stac import write_item

        summary = self._tally.summary(self._count, is_split=self._is_split)
        warnings = (*warnings, *found_warnings(self._request, self._tally, self._judged_share))
        with self._files.finishing():
            picture = quicklook_facts(self._request, self._tally, provenance, warnings)
            write_quicklook(self._files.working("quicklook"), picture, self._picture.shares(), self._backdrop.mean())
            item = self._files.working("item")
            write_item(item, item_facts(self._request, self._files.names, (summary, provenance, warnings)))
        return FloodOutcome(self._files.commit(), summary, self._tally.valid_fraction, warnings)

    def discard(self) -> None:
        """Remove every working file; safe to call twice and after `commit`."""
        self._files.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Discard what was not committed."""
        self.discard()
