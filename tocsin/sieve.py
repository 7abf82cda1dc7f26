"""Exact sieve over strips: specks of what was found removed, then holes in it filled, both below a stated size.

Codes are those of `tocsin.hazards.classes.decide`: 0 and 1 (flood: dry and water; volcano: stable and deforming).

A component below N pixels spans fewer than N rows. Holes are looked for after specks are gone, so that 2 N rows above
and below a strip decide every pixel in it: the result is that of the whole scene at once, whatever the strips.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from tocsin.hazards.classes import NOT_OBSERVABLE, ClassArray
from tocsin.runs import Runs, components, find_runs

SIEVE_PX: Final = 10
"""Smallest patch, and smallest island in it, that is kept, pixels: 0.001 km2 (0.1 ha) at 10 m, 0.1 km2 at 100 m."""

_NOT_FOUND: Final = 0
_FOUND: Final = 1

_MIN_ROWS: Final = 256
"""Rows worth a pass: shorter strips are collected, since each pass also labels 4 x SIEVE_PX rows around them."""


def sieve(
    strips: Iterable[tuple[int, ClassArray]], size: int = SIEVE_PX, *, keep_specks: bool = False
) -> Iterator[tuple[int, ClassArray]]:
    """Remove components of 1 under `size` pixels, then fill components of 0 under `size` that only 1 surrounds.

    Components are 4-connected, as the polygons are. A component of 0 that touches the scene's edge, 254 or 255 may be
    larger than what was seen and is never filled. 254 and 255 never change.

    Parameters
    ----------
    strips : iterable of (int, numpy.ndarray)
        First row and uint8 [height, width] of codes 0, 1, 254 and 255; ascending, without gaps.
    size : int
        Smallest component kept, pixels; 1 keeps everything.
    keep_specks : bool
        Only fill holes.

    Yields
    ------
    int, numpy.ndarray
        The same rows, in strips of other heights.
    """
    halo = 2 * size
    held: ClassArray | None = None
    top = done = 0
    for row, codes in strips:
        if held is None:
            held, top = codes, row
        else:
            held = np.concatenate([held, codes])
        ready = len(held) - halo
        if ready - done >= _MIN_ROWS:
            yield top + done, _sieved(held, size, keep_specks=keep_specks)[done:ready]
            cut = max(0, ready - halo)
            held, top, done = held[cut:], top + cut, ready - cut
    if held is not None and len(held) > done:
        yield top + done, _sieved(held, size, keep_specks=keep_specks)[done:]


def _sieved(codes: ClassArray, size: int, *, keep_specks: bool) -> ClassArray:
    if size <= 1 or not (codes == _FOUND).any():
        return codes
    result = codes.copy()
    flat = result.reshape(-1)
    if not keep_specks:
        runs = find_runs(result, (_FOUND,))
        flat[runs.pixels(_small(runs, size)[1])] = _NOT_FOUND
    runs = find_runs(result, (_NOT_FOUND,))
    root, small = _small(runs, size)
    pixels = runs.pixels(small)
    open_to_unknown = np.zeros(root.size, dtype=bool)
    open_to_unknown[root[runs.at(pixels[_at_unknown(result, pixels)])]] = True
    small &= ~open_to_unknown[root]
    flat[runs.pixels(small)] = _FOUND
    return result


def _small(runs: Runs, size: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    root = components(runs.start.size, runs.upper, runs.lower)
    pixels = np.bincount(root, weights=runs.length, minlength=root.size)
    return root, np.asarray(pixels[root] < size)


def _at_unknown(codes: ClassArray, pixels: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Whether each pixel has a neighbour that is not observable, no data or beyond the edge."""
    height, width = codes.shape
    row, col = np.divmod(pixels, width)
    touches = np.asarray((row == 0) | (row == height - 1) | (col == 0) | (col == width - 1))
    for row_step, col_step in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        near = codes[np.clip(row + row_step, 0, height - 1), np.clip(col + col_step, 0, width - 1)]
        touches |= near >= NOT_OBSERVABLE
    return touches
