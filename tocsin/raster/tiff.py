"""Check a TIFF's own directory against the file's size, before GDAL sees the file.

GDAL allocates and reads by what a header promises. This reader trusts nothing: it looks only at bytes that are there,
so its memory is bounded by the file, and it finds strips or tiles that lie outside it. Layout: TIFF revision 6.0 (Adobe
1992) section 2 and the BigTIFF extension.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from tocsin.errors import NotARasterError, TooLargeError, TruncatedError
from tocsin.raster.source import Limits

MAGIC = {b"II*\x00": ("<", False), b"MM\x00*": (">", False), b"II+\x00": ("<", True), b"MM\x00+": (">", True)}
WIDTH, HEIGHT, BITS, COMPRESSION, SAMPLES, ROWS_PER_STRIP, PLANAR = 256, 257, 258, 259, 277, 278, 284
STRIP_OFFSETS, STRIP_COUNTS = 273, 279
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS = 322, 323, 324, 325
# Bytes of one value of each TIFF field type.
TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
INTEGER_TYPES = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}
# A scene, its mask and their overviews are some twenty directories; a chain of thousands is an attack or a mistake.
MAX_DIRECTORIES = 256
MAX_BLOCKS = 2**24
# An image has some twenty fields; BigTIFF could list as many as the file has room for, each a Python object here.
MAX_FIELDS = 4096

IntArray = NDArray[np.uint64]


@dataclass(frozen=True)
class Field:
    """One entry of a directory: where its values lie."""

    kind: int
    count: int
    offset: int


@dataclass(frozen=True)
class Directory:
    """One image of the file (the scene, its mask or an overview)."""

    fields: dict[int, Field]
    after: int


class TiffFile:
    """Reader of directories of an open TIFF or BigTIFF."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.file = file
        self.name = name
        self.size = file.seek(0, os.SEEK_END)
        head = self._bytes(0, 8)
        if head[:4] not in MAGIC:
            raise NotARasterError(name, "a TIFF", "pass a GeoTIFF")
        self.order, self.big = MAGIC[head[:4]]
        self.first = self._integer(8, 8) if self.big else self._integer(4, 4)

    def _truncated(self, what: str) -> TruncatedError:
        return TruncatedError(
            f"{self.name}: {what} lies outside the {self.size} bytes of the file",
            "a whole file",
            "copy or download the file again and compare its size with the original",
        )

    def _bytes(self, offset: int, length: int) -> bytes:
        if offset + length > self.size:
            raise self._truncated(f"byte {offset + length} of the directory")
        self.file.seek(offset)
        return self.file.read(length)

    def _integer(self, offset: int, length: int) -> int:
        return self._decoded(self._bytes(offset, length))

    def _decoded(self, raw: bytes) -> int:
        return int.from_bytes(raw, "little" if self.order == "<" else "big")

    def directory(self, offset: int) -> Directory:
        """Return the directory at an offset."""
        head, entry, inline = (8, 20, 8) if self.big else (2, 12, 4)
        count = self._integer(offset, head)
        if count > MAX_FIELDS:
            raise NotARasterError(
                f"{self.name}: a directory of {count} fields", f"at most {MAX_FIELDS}", "write the file again"
            )
        body = self._bytes(offset + head, count * entry)
        fields: dict[int, Field] = {}
        for start in range(0, count * entry, entry):
            tag = self._decoded(body[start : start + 2])
            kind = self._decoded(body[start + 2 : start + 4])
            number = self._decoded(body[start + 4 : start + entry - inline])
            place = offset + head + start + entry - inline
            if number * TYPE_BYTES.get(kind, 1) > inline:
                place = self._decoded(body[start + entry - inline : start + entry])
            fields[tag] = Field(kind, number, place)
        return Directory(fields, self._integer(offset + head + count * entry, inline))

    def values(self, field: Field) -> IntArray:
        """Return the integers of a field as uint64; bytes beyond the file are never read."""
        kind = INTEGER_TYPES.get(field.kind)
        if kind is None:
            raise NotARasterError(f"{self.name}: a TIFF field of type {field.kind}", "integers", "write the file again")
        raw = self._bytes(field.offset, field.count * TYPE_BYTES[field.kind])
        return np.frombuffer(raw, dtype=self.order + kind).astype(np.uint64)

    def number(self, directory: Directory, tag: int, default: int) -> int:
        """Return the first value of a tag."""
        field = directory.fields.get(tag)
        if field is None or field.count == 0:
            return default
        return int(self.values(Field(field.kind, 1, field.offset))[0])

    def check_size(self, directory: Directory, limits: Limits) -> None:
        """Refuse an image over the limits."""
        width, height = self.number(directory, WIDTH, 0), self.number(directory, HEIGHT, 0)
        if width < 1 or height < 1:
            raise NotARasterError(f"{self.name}: {width} x {height} pixels", "an image", "write the file again")
        check_shape(self.name, (height, width), self.number(directory, SAMPLES, 1), limits)

    def check_blocks(self, directory: Directory) -> None:
        """Refuse an image with a strip or tile outside the file, or with fewer of them than it needs."""
        tiled = TILE_OFFSETS in directory.fields
        offset_tag, count_tag = (TILE_OFFSETS, TILE_COUNTS) if tiled else (STRIP_OFFSETS, STRIP_COUNTS)
        offset_field, count_field = directory.fields.get(offset_tag), directory.fields.get(count_tag)
        if offset_field is None:
            raise self._truncated("the list of strips or tiles")
        needed = self._blocks_needed(directory, tiled=tiled)
        offsets = self._listed(offset_field, needed)
        # Writers of the first TIFF revisions leave the byte counts out; then only the starts can be checked.
        counts = np.zeros_like(offsets) if count_field is None else self._listed(count_field, needed)
        # Offset 0 with count 0 is GDAL's sparse block: legal, never written.
        outside = (offsets > self.size) | (counts > self.size) | (offsets + counts > self.size)
        if outside.any():
            raise self._truncated(f"{int(outside.sum())} of {needed} strips or tiles")

    def _listed(self, field: Field, needed: int) -> IntArray:
        if field.count < needed:
            raise self._truncated(f"one of {needed} strips or tiles (only {field.count} are listed)")
        if needed > MAX_BLOCKS:
            raise TooLargeError(
                f"{self.name}: {needed} strips or tiles", f"at most {MAX_BLOCKS}", "write the file with larger tiles"
            )
        return self.values(Field(field.kind, needed, field.offset))

    def _blocks_needed(self, directory: Directory, *, tiled: bool) -> int:
        width, height = self.number(directory, WIDTH, 0), self.number(directory, HEIGHT, 0)
        if tiled:
            across = self.number(directory, TILE_WIDTH, 0)
            down = self.number(directory, TILE_HEIGHT, 0)
        else:
            across, down = width, min(height, self.number(directory, ROWS_PER_STRIP, height))
        if across < 1 or down < 1:
            raise NotARasterError(f"{self.name}: blocks of {across} x {down} pixels", "an image", "write it again")
        planes = self.number(directory, SAMPLES, 1) if self.number(directory, PLANAR, 1) == 2 else 1
        return -(-width // across) * -(-height // down) * planes


def check_shape(name: str, shape: tuple[int, int], bands: int, limits: Limits) -> None:
    """Refuse an image over the limits on pixels, width and bands."""
    height, width = shape
    if height * width > limits.max_pixels or width > limits.max_width or bands > limits.max_bands:
        raise TooLargeError(
            f"{name}: {width} x {height} pixels, {bands} bands",
            f"at most {limits.max_pixels} pixels, {limits.max_width} across, {limits.max_bands} bands",
            "cut the scene to the area of interest, or raise the limit",
        )


def check_tiff(path: Path, name: str, limits: Limits) -> None:
    """Refuse a TIFF that is over the limits or that promises more than it holds.

    Parameters
    ----------
    path
        The file.
    name
        How the user called it, for messages.
    limits
        Largest image accepted.

    Raises
    ------
    NotARasterError, TooLargeError, TruncatedError
        In the order in which the header is read: nothing is allocated for a header that promises too much.
    """
    with path.open("rb") as file:
        tiff = TiffFile(file, name)
        offset, seen = tiff.first, set[int]()
        while offset:
            if offset in seen or len(seen) == MAX_DIRECTORIES:
                raise NotARasterError(
                    f"{name}: a chain of directories without end", f"at most {MAX_DIRECTORIES}", "write the file again"
                )
            seen.add(offset)
            directory = tiff.directory(offset)
            tiff.check_size(directory, limits)
            tiff.check_blocks(directory)
            offset = directory.after
    if not seen:
        raise TruncatedError(f"{name}: no image directory", "a whole file", "copy or download the file again")
