"""The part of writing products that hazards share: decided rows in; class raster, areas, picture, polygons out.

A hazard's own products derive from `ClassProducts`: they decide rows strip by strip, and say what a picture and an
item hold.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Generic, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt

from tocsin.areas import ClassAreas
from tocsin.hazards.classes import ClassArray
from tocsin.polygons import PixelPolygon, PolygonBuilder
from tocsin.product_files import ProductFiles
from tocsin.product_request import ProductRequest
from tocsin.raster import RasterSpec, RasterWriter
from tocsin.sieve import sieve
from tocsin.thumbnail import ClassThumbnail

_PIECE_PIXELS: Final = 2**21
"""Pixels worked on at once: more would only cost memory."""

Kind = TypeVar("Kind", bound=np.generic)
Tally = TypeVar("Tally", bound=ClassAreas)


@dataclass(frozen=True, slots=True)
class ClassRows:
    """Some rows on their way.

    Attributes
    ----------
    row : int
        First row.
    codes : numpy.ndarray
        uint8 [height, width], codes of `tocsin.hazards.classes.decide`.
    probability : numpy.ndarray
        uint16 [height, width], as stored.
    beside : numpy.ndarray or None
        uint8 [height, width], codes that are sieved for holes alongside (flood: permanence); None in all rows or none.
    """

    row: int
    codes: ClassArray
    probability: npt.NDArray[np.uint16]
    beside: ClassArray | None = None


class PolygonSink(Protocol):
    """Where finished polygons go."""

    def add(self, polygon: PixelPolygon) -> None:
        """Take one polygon."""


class ClassProducts(Generic[Tally]):
    """Life cycle and class raster of one scene's products.

    Making one refuses existing products at once (`ProductExistsError`) and makes no file; `map_rows` works strip by
    strip; the hazard's ``commit`` renames everything into place, ``*_class.tif`` last; `discard` (or leaving the
    context without a commit) leaves nothing behind.

    Parameters
    ----------
    request : ProductRequest
        What to write, and where.
    tally : ClassAreas
        Counts the areas of all codes.
    polygon_codes : tuple of int
        Codes that polygons are made of.
    """

    def __init__(self, request: ProductRequest, tally: Tally, polygon_codes: tuple[int, ...]) -> None:
        self._files = ProductFiles(request.out, request.scene_id, overwrite=request.overwrite)
        self._grid = request.grid
        self._tally = tally
        self._polygon_codes = polygon_codes
        self._picture = ClassThumbnail(request.grid.shape, tuple(tally.units))

    def map_rows(
        self,
        decided: Iterator[ClassRows],
        spec: RasterSpec,
        sink: PolygonSink,
        split: Callable[[ClassArray, ClassArray | None], ClassArray] | None = None,
    ) -> None:
        """Sieve decided rows, and write, count, picture and outline them.

        Parameters
        ----------
        decided : iterator of ClassRows
            Every row of the scene in ascending order, without gaps.
        spec : RasterSpec
            Of the class raster.
        sink : PolygonSink
            Takes each polygon as soon as it ends.
        split : callable or None
            Makes final codes of sieved ones and what lies beside them; None when nothing does.
        """
        classes = self._files.raster("class", self._grid, spec)
        builder = PolygonBuilder(self._grid.width, self._polygon_codes)
        for rows in sieved(decided, self._grid.width, has_beside=split is not None):
            codes = rows.codes if split is None else split(rows.codes, rows.beside)
            self._write(ClassRows(rows.row, codes, rows.probability), classes, builder, sink)
        for polygon in builder.finish():
            sink.add(polygon)

    def _write(self, rows: ClassRows, classes: RasterWriter, builder: PolygonBuilder, sink: PolygonSink) -> None:
        classes.write_rows(rows.row, rows.codes)
        weights = self._tally.weights(rows.row, len(rows.codes))
        self._tally.add(rows.codes, weights)
        self._picture.add(rows.row, rows.codes)
        for polygon in builder.add(rows.codes, rows.probability, weights):
            sink.add(polygon)

    def discard(self) -> None:
        """Remove every working file; safe to call twice and after a commit."""
        self._files.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Discard what was not committed."""
        self.discard()


def sieved(decided: Iterator[ClassRows], width: int, *, has_beside: bool) -> Iterator[ClassRows]:
    """Sieve classes, fill such holes in what lies beside them too, and join both with the probability, in pieces.

    Parameters
    ----------
    decided : iterator of ClassRows
        Every row of the scene in ascending order, without gaps.
    width : int
        Columns of the scene.
    has_beside : bool
        Whether the rows hold something beside the classes.
    """
    # The copies run a few rows apart: that is all that they hold.
    copies = fan_out(decided, 3 if has_beside else 2)
    classes = sieve((rows.row, rows.codes) for rows in copies[0])
    values = _Rechunked(rows.probability for rows in copies[1])
    lasting = None
    if has_beside:
        # A hole that is filled must not turn into another class for being a hole in what lies beside it.
        strips = ((rows.row, rows.beside) for rows in copies[2] if rows.beside is not None)
        lasting = _Rechunked(rows for _, rows in sieve(strips, keep_specks=True))
    most = max(1, _PIECE_PIXELS // width)
    for row, codes in classes:
        for start in range(0, len(codes), most):
            part = codes[start : start + most]
            beside = None if lasting is None else lasting.take(len(part))
            yield ClassRows(row + start, part, values.take(len(part)), beside)


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


def fan_out(items: Iterator[ClassRows], count: int) -> tuple[Iterator[ClassRows], ...]:
    """Return `count` iterators over the same items, which hold only what some of them have not had yet.

    `itertools.tee` would keep up to 57 items that all have had: a whole scene, if items are strips.
    """
    waiting: list[deque[ClassRows]] = [deque() for _ in range(count)]

    def follow(own: deque[ClassRows]) -> Iterator[ClassRows]:
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
