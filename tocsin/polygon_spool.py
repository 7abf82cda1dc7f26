"""Polygons kept aside on disk, until what else is said of them is known: memory does not grow with their number."""

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np

from tocsin.errors import StorageFullError
from tocsin.polygons import PixelPolygon


class PolygonSpool:
    """Takes polygons, and gives them back in the same order as often as asked.

    Parameters
    ----------
    path : Path
        File to write; whoever owns its folder removes it.
    """

    def __init__(self, path: Path) -> None:
        self.count = 0
        self._path = path
        self._file: BinaryIO = path.open("wb")

    def add(self, polygon: PixelPolygon) -> None:
        """Take one polygon."""
        head = [polygon.code, polygon.first, polygon.pixels, polygon.weight, polygon.total, len(polygon.rings)]
        corners = [ring.astype(np.int64).reshape(-1) for ring in polygon.rings]
        record = np.concatenate([np.array([*head, *map(len, polygon.rings)], dtype=np.int64), *corners])
        try:
            self._file.write(record.tobytes())
        except OSError as error:
            raise self._full(error) from error
        self.count += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the file."""
        try:
            self._file.close()
        except OSError as full:
            # What went wrong before says more, or the same.
            if error is None:
                raise self._full(full) from full

    def _full(self, error: OSError) -> StorageFullError:
        return StorageFullError(
            f"{self._path.parent}: {error}", "room for the polygons", "free space or choose another -o"
        )

    def __iter__(self) -> Iterator[PixelPolygon]:
        """Yield what was taken, after the file was ended."""
        with self._path.open("rb") as file:
            for _ in range(self.count):
                code, first, pixels, weight, total, parts = np.fromfile(file, np.int64, 6).tolist()
                sizes = np.fromfile(file, np.int64, parts).tolist()
                rings = [np.fromfile(file, np.int64, 2 * size).reshape(-1, 2) for size in sizes]
                yield PixelPolygon(code, first, pixels, weight, total, rings)
