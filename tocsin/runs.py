"""Connected components of a class raster through its horizontal runs.

A run is a maximal stretch of one code within a row. Two runs in neighbouring rows belong together when they have the
same code and share a column (4-connected). A raster has far fewer runs than pixels, so that everything below works on
short arrays.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs of the wanted codes of a raster [height, width], in row-major order.

    Attributes
    ----------
    start, stop : numpy.ndarray
        int64 [run]: flat index of the first pixel and one past the last.
    code : numpy.ndarray
        uint8 [run].
    upper, lower : numpy.ndarray
        int64 [link]: pairs of runs, in neighbouring rows, that belong to one component.
    """

    start: IntArray
    stop: IntArray
    code: npt.NDArray[np.uint8]
    upper: IntArray
    lower: IntArray

    @property
    def length(self) -> IntArray:
        """Pixels of each run, int64 [run]."""
        return self.stop - self.start

    def at(self, pixels: IntArray) -> IntArray:
        """Run that holds each flat pixel index; the pixels must be of a wanted code."""
        found: IntArray = np.searchsorted(self.start, pixels, side="right") - 1
        return found

    def pixels(self, chosen: npt.NDArray[np.bool_]) -> IntArray:
        """Flat indices of all pixels of the chosen runs (bool [run]), ascending."""
        start, length = self.start[chosen], self.length[chosen]
        ends = np.cumsum(length)
        total = int(ends[-1]) if ends.size else 0
        offset: IntArray = np.repeat(start - (ends - length), length)
        return np.arange(total) + offset


def find_runs(codes: npt.NDArray[np.uint8], wanted: tuple[int, ...]) -> Runs:
    """Find the runs of `wanted` codes in a raster, and which of them touch.

    Parameters
    ----------
    codes : numpy.ndarray
        uint8 [height, width].
    wanted : tuple of int
        Codes to look at; all others are background.
    """
    height, width = codes.shape
    lookup = np.zeros(256, dtype=bool)
    lookup[list(wanted)] = True
    change = np.ones((height, width), dtype=bool)
    np.not_equal(codes[:, 1:], codes[:, :-1], out=change[:, 1:])
    first = np.flatnonzero(change)
    flat = codes.reshape(-1)
    code = flat[first]
    keep = lookup[code]
    stop = np.append(first[1:], codes.size)[keep]
    start = first[keep]
    # Where a link starts, at least one of the two runs starts; looking only there gives each link once.
    meets = codes[1:] == codes[:-1]
    meets &= change[1:] | change[:-1]
    above = np.flatnonzero(meets)
    above = above[lookup[flat[above]]]
    upper = np.searchsorted(start, above, side="right") - 1
    lower = np.searchsorted(start, above + width, side="right") - 1
    return Runs(start, stop, code[keep], upper, lower)


def components(count: int, first: IntArray, second: IntArray) -> IntArray:
    """Label the connected components of a graph: hooking and pointer jumping (Shiloach and Vishkin 1982).

    Parameters
    ----------
    count : int
        Number of nodes.
    first, second : numpy.ndarray
        int64 [edge]: the two nodes of each edge.

    Returns
    -------
    numpy.ndarray
        int64 [count]: smallest node of each node's component.
    """
    parent = np.arange(count)
    while first.size:
        root_first, root_second = parent[first], parent[second]
        open_ = root_first != root_second
        if not open_.any():
            break
        first, second = root_first[open_], root_second[open_]
        np.minimum.at(parent, np.maximum(first, second), np.minimum(first, second))
        while True:
            jumped = parent[parent]
            if np.array_equal(jumped, parent):
                break
            parent = jumped
    return parent
