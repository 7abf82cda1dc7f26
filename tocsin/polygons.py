"""Polygons of a class raster, strip by strip, exact across the seams.

A polygon is a 4-connected component of one class. While strips arrive, only the corners of components that may still
grow are kept; a component is closed once a row without it came, and leaves at once. Its boundary is then traced
through corners (every corner ends one horizontal and one vertical edge), so that no geometry is ever merged and the
polygons are those of the whole raster, whatever the strips. They come in the order of their last row, then of their
first pixel.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from tocsin.runs import Runs, components, find_runs

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

WEIGHT_CELL: Final = 64
"""Pixels of a row that share one weight."""

# A corner by the 2 x 2 pixels around a lattice point, of which bits 1, 2, 4, 8 (NW, NE, SW, SE) are in the component.
# Columns: pattern, row and column step to a pixel that owns the corner, whether the horizontal edge goes right, the
# vertical edge goes down, and the owner's side of the horizontal edge is below. Diagonal patterns 6 and 9 are two
# corners, which keeps the polygons 4-connected.
_CORNERS = np.array(
    [
        (1, -1, -1, 0, 0, 0),
        (2, -1, 0, 1, 0, 0),
        (4, 0, -1, 0, 1, 1),
        (8, 0, 0, 1, 1, 1),
        (7, -1, -1, 1, 1, 0),
        (11, -1, -1, 0, 1, 0),
        (13, -1, -1, 1, 0, 1),
        (14, 0, 0, 0, 0, 1),
        (9, -1, -1, 0, 0, 0),
        (9, 0, 0, 1, 1, 1),
        (6, -1, 0, 1, 0, 0),
        (6, 0, -1, 0, 1, 1),
    ],
    dtype=np.int64,
)


@dataclass(frozen=True, slots=True)
class PixelPolygon:
    """One closed component.

    Attributes
    ----------
    code : int
        Its class.
    first : int
        Row-major index of its first pixel in the scene: a name that no choice of strips changes.
    pixels : int
        Number of pixels.
    weight : int
        Sum of the weights of its pixels (the caller's unit of area).
    total : int
        Sum of the values of its pixels (the caller's unit of probability).
    rings : list of numpy.ndarray
        int64 [corner, 2] of (row, col) lattice points, not closed; the exterior first. With north up the exterior
        runs counter-clockwise and the holes clockwise (RFC 7946).
    """

    code: int
    first: int
    pixels: int
    weight: int
    total: int
    rings: list[IntArray]


@dataclass(slots=True)
class _Open:
    """Components that may still grow: arrays [component], sums [component, 3] of pixels, weights and values.

    ``corners`` is [corner, 6]: component, row, col, right, down, below.
    """

    code: npt.NDArray[np.uint8]
    first: IntArray
    last_row: IntArray
    sums: IntArray
    corners: IntArray


class PolygonBuilder:
    """Turns strips of a class raster into polygons.

    Parameters
    ----------
    width : int
        Columns of the scene.
    wanted : tuple of int
        Codes that polygons are made of.
    """

    def __init__(self, width: int, wanted: tuple[int, ...]) -> None:
        self._width = width
        self._wanted = wanted
        self._background = next(code for code in range(256) if code not in wanted)
        self._row = 0
        self._last = np.full((1, width), self._background, dtype=np.uint8)
        self._last_component = np.empty(0, dtype=np.int64)
        empty = np.empty(0, dtype=np.int64)
        self._open = _Open(
            empty.astype(np.uint8), empty, empty, np.empty((0, 3), dtype=np.int64), np.empty((0, 6), dtype=np.int64)
        )

    def add(
        self, codes: npt.NDArray[np.uint8], values: npt.NDArray[np.uint16], weights: npt.NDArray[np.float64]
    ) -> Iterator[PixelPolygon]:
        """Take the next rows and yield the polygons that ended above or in them.

        Parameters
        ----------
        codes : numpy.ndarray
            uint8 [height, width].
        values : numpy.ndarray
            uint16 [height, width]: summed per polygon.
        weights : numpy.ndarray
            float64 [height, ceil(width / WEIGHT_CELL)]: weight of every pixel in a cell of a row; or [height, 1]. Whole
            numbers, so that sums are exact in any order.
        """
        if self._last_component.size or any((codes == code).any() for code in self._wanted):
            yield from self._grow(codes, values, weights)
        self._row += len(codes)
        self._last = codes[-1:]

    def finish(self) -> Iterator[PixelPolygon]:
        """Yield what is still open, after the last row."""
        below = np.full((1, self._width), self._background, dtype=np.uint8)
        yield from self.add(below, np.zeros(below.shape, dtype=np.uint16), np.zeros((1, 1)))

    def _grow(
        self, codes: npt.NDArray[np.uint8], values: npt.NDArray[np.uint16], weights: npt.NDArray[np.float64]
    ) -> Iterator[PixelPolygon]:
        # The last row of the strip above comes along: corners on the seam need it, and links start from it.
        block = np.concatenate([self._last, codes])
        runs = find_runs(block, self._wanted)
        known = self._open.code.size
        carried = self._last_component.size
        node = np.arange(runs.start.size) + known
        root = components(
            known + runs.start.size,
            np.concatenate([self._last_component, node[runs.upper]]),
            np.concatenate([node[:carried], node[runs.lower]]),
        )
        names, component = np.unique(root, return_inverse=True)
        of_open, of_run = component[:known], component[known:]
        grown = self._merge(runs, of_open, of_run, len(names))
        self._measure(grown, runs, of_run, carried, (values, weights))
        corners = self._corners(block, runs, of_run)
        old = self._open.corners
        old[:, 0] = of_open[old[:, 0]]
        grown.corners = np.concatenate([old, corners])
        at_end = np.unique(of_run[runs.start >= (len(block) - 1) * self._width])
        is_open = np.zeros(len(names), dtype=bool)
        is_open[at_end] = True
        self._last_component = (np.cumsum(is_open) - 1)[of_run[runs.start >= (len(block) - 1) * self._width]]
        yield from _close(grown, is_open)
        self._open = _subset(grown, is_open)

    def _merge(self, runs: Runs, of_open: IntArray, of_run: IntArray, count: int) -> _Open:
        origin = (self._row - 1) * self._width
        code = np.zeros(count, dtype=np.uint8)
        code[of_open] = self._open.code
        code[of_run] = runs.code
        first = np.full(count, np.iinfo(np.int64).max)
        np.minimum.at(first, of_open, self._open.first)
        np.minimum.at(first, of_run, runs.start + origin)
        last_row = np.zeros(count, dtype=np.int64)
        np.maximum.at(last_row, of_open, self._open.last_row)
        np.maximum.at(last_row, of_run, (runs.start + origin) // self._width)
        sums = np.zeros((count, 3), dtype=np.int64)
        for column in range(3):
            np.add.at(sums[:, column], of_open, self._open.sums[:, column])
        return _Open(code, first, last_row, sums, self._open.corners)

    def _measure(
        self,
        grown: _Open,
        runs: Runs,
        of_run: IntArray,
        carried: int,
        layers: tuple[npt.NDArray[np.uint16], FloatArray],
    ) -> None:
        """Add pixels, weights and values of the new runs (those of the carried row were counted before)."""
        start, stop = runs.start[carried:] - self._width, runs.stop[carried:] - self._width
        if not start.size:
            return
        values, weights = layers
        row = start // self._width
        first = row * self._width
        weight = _up_to(weights, row, stop - first) - _up_to(weights, row, start - first)
        at = of_run[carried:]
        for column, amount in enumerate((stop - start, weight, _run_sums(values, start, stop))):
            np.add.at(grown.sums[:, column], at, amount.astype(np.int64))

    def _corners(self, block: npt.NDArray[np.uint8], runs: Runs, of_run: IntArray) -> IntArray:
        """Corners on the lattice rows above each row of the block but its first: int64 [corner, 6]."""
        found = []
        height, width = block.shape
        for code in self._wanted:
            inside = np.zeros((height, width + 2), dtype=np.uint8)
            np.equal(block, code, out=inside[:, 1:-1].view(bool))
            if not inside.any():
                continue
            pair = inside[:, :-1] | (inside[:, 1:] << 1)
            pattern = pair[:-1] | (pair[1:] << 2)
            place = np.flatnonzero(_IS_CORNER[pattern])
            kind = pattern.reshape(-1)[place]
            row, col = np.divmod(place, width + 1)
            for shape, row_step, col_step, *flags in _CORNERS.tolist():
                here = kind == shape
                owner = (row[here] + 1 + row_step) * width + col[here] + col_step
                corner = np.empty((owner.size, 6), dtype=np.int64)
                corner[:, 0] = of_run[runs.at(owner)]
                corner[:, 1] = row[here] + self._row
                corner[:, 2] = col[here]
                corner[:, 3:] = flags
                found.append(corner)
        return np.concatenate(found) if found else np.empty((0, 6), dtype=np.int64)


_IS_CORNER = np.zeros(16, dtype=bool)
_IS_CORNER[_CORNERS[:, 0]] = True


def _run_sums(values: npt.NDArray[np.uint16], start: IntArray, stop: IntArray) -> FloatArray:
    """Sum of values over each run: float64 [run], whole numbers."""
    length = stop - start
    before = np.cumsum(length) - length
    picked = np.repeat(start - before, length) + np.arange(int(length.sum()))
    sums: FloatArray = np.add.reduceat(values.reshape(-1)[picked].astype(np.float64), before)
    return sums


def _up_to(weights: FloatArray, row: IntArray, col: IntArray) -> FloatArray:
    """Sum of the weights of a row's pixels left of a column: float64, whole numbers."""
    cell = np.minimum(col // WEIGHT_CELL, weights.shape[1] - 1)
    before = np.cumsum(weights * WEIGHT_CELL, axis=1) - weights * WEIGHT_CELL
    total: FloatArray = before[row, cell] + weights[row, cell] * (col - cell * WEIGHT_CELL)
    return total


def _subset(grown: _Open, chosen: npt.NDArray[np.bool_]) -> _Open:
    number = np.cumsum(chosen) - 1
    corners = grown.corners[chosen[grown.corners[:, 0]]]
    corners[:, 0] = number[corners[:, 0]]
    return _Open(grown.code[chosen], grown.first[chosen], grown.last_row[chosen], grown.sums[chosen], corners)


def _close(grown: _Open, is_open: npt.NDArray[np.bool_]) -> Iterator[PixelPolygon]:
    closed = _subset(grown, ~is_open)
    rings = _trace(closed.corners, closed.code.size)
    for index in np.lexsort((closed.first, closed.last_row)).tolist():
        pixels, weight, total = closed.sums[index].tolist()
        yield PixelPolygon(int(closed.code[index]), int(closed.first[index]), pixels, weight, total, rings[index])


def _trace(corners: IntArray, count: int) -> list[list[IntArray]]:
    """Rings of `count` whole components: per component the exterior, then its holes by their first corner."""
    if not len(corners):
        return [[] for _ in range(count)]
    row_step, col_step = 2 * (int(corners[:, 2].max()) + 1), 2 * (int(corners[:, 1].max()) + 1)
    name, row, col, right, down, _ = corners.T
    corners = corners[np.argsort((name * col_step + 2 * row) * row_step + 2 * col + right)]
    name, row, col, right, down, below = np.ascontiguousarray(corners.T)
    # In a lattice row of one component corners pair up left to right: each pair is an edge; likewise down a lattice
    # column.
    across = np.arange(len(corners)).reshape(-1, 2)
    along = np.argsort((name * row_step + 2 * col) * col_step + 2 * row + down).reshape(-1, 2)
    # The component lies left of its edges: they run west above it and east below it.
    west = below[across[:, 0]] == 1
    tail, head = np.where(west, across[:, 1], across[:, 0]), np.where(west, across[:, 0], across[:, 1])
    mate = np.empty(len(corners), dtype=np.int64)
    mate[along[:, 0]], mate[along[:, 1]] = along[:, 1], along[:, 0]
    order, sizes = _cycles(tail, head, mate)
    points = np.stack([row[order], col[order]], axis=1)
    pinched = np.zeros(count, dtype=bool)
    pinched[name[1:][(np.diff(name) == 0) & (np.diff(row) == 0) & (np.diff(col) == 0)]] = True
    starts = np.cumsum(sizes) - sizes
    rings: list[list[IntArray]] = [[] for _ in range(count)]
    for owner, start, size in zip(name[order[starts]].tolist(), starts.tolist(), sizes.tolist(), strict=True):
        ring = points[start : start + size]
        # Rings come by their first corner, and the first corner of a component is on its exterior.
        rings[owner].extend(_split(ring) if pinched[owner] else (ring,))
    return rings


def _cycles(tail: IntArray, head: IntArray, mate: IntArray) -> tuple[IntArray, IntArray]:
    """Corners in the order in which rings run through them, and the number of corners of each ring."""
    target = np.empty(len(mate), dtype=np.int64)
    target[tail] = head
    following = np.empty(len(mate), dtype=np.int64)
    following[tail] = mate[head]
    step = following.tolist()
    seen = bytearray(len(step))
    order: list[int] = []
    sizes: list[int] = []
    for first in tail.tolist():
        if seen[first]:
            continue
        before = len(order)
        at = first
        while not seen[at]:
            seen[at] = 1
            order.append(at)
            at = step[at]
        sizes.append(2 * (len(order) - before))
    tails = np.array(order, dtype=np.int64)
    return np.stack([tails, target[tails]], axis=1).reshape(-1), np.array(sizes, dtype=np.int64)


def _split(ring: IntArray) -> list[IntArray]:
    """Cut a ring that passes a lattice point twice into rings that do not, the one with the first point first.

    Holes may then touch each other and the exterior in points, which is valid; a ring that touches itself is not.
    """
    parts: list[IntArray] = []
    path: list[tuple[int, int]] = []
    place: dict[tuple[int, int], int] = {}
    for row, col in ring.tolist():
        if (row, col) in place:
            cut = place[row, col]
            parts.append(np.array(path[cut:], dtype=np.int64))
            for gone in path[cut + 1 :]:
                del place[gone]
            del path[cut + 1 :]
        else:
            place[row, col] = len(path)
            path.append((row, col))
    parts.insert(0, np.array(path, dtype=np.int64))
    return parts
