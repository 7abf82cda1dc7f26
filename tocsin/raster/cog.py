"""Build a COG while its rows arrive, so that at the end only bytes are copied.

GDAL's COG driver starts when the last row is there: it makes overviews, compresses them, reads them back and compresses
all again, when nothing is left to do beside it. Here each row of tiles, of the image and its overviews, is compressed
by GDAL as soon as it is complete, and its bytes are kept; `assemble` writes header, directories, overviews (smallest
first) and image, the order that a COG asks for. Layout: TIFF revision 6.0 (Adobe 1992), section 2, and the BigTIFF
extension.
"""

import shutil
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.io import MemoryFile

from tocsin.raster.tiff import TILE_COUNTS, TILE_OFFSETS, TYPE_BYTES, Directory, TiffFile

BLOCK_PX = 512
NEW_SUBFILE_TYPE, WIDTH, HEIGHT = 254, 256, 257
REDUCED_IMAGE = 1
# What says where the image lies and what it is about: stated once, by the image itself.
ONLY_MAIN = frozenset({33550, 33922, 34264, 34735, 34736, 34737, 42112})
LONG, LONG8 = 4, 16
CLASSIC_BYTES = 2**32 - 2**20
"""A file above needs 64-bit offsets."""

Resampling = Literal["nearest", "mode", "average"]
Pixels = NDArray[Any]


@dataclass(slots=True)
class Level:
    """The image or one of its overviews: rows that wait for a whole row of tiles, and tiles that are done.

    Attributes
    ----------
    height, width : int
        Pixels.
    path : pathlib.Path
        Compressed tiles, one after the other in row-major order.
    rows : list of numpy.ndarray
        Rows that wait, together fewer than a tile has.
    sizes : list of int
        Bytes of each tile.
    odd : numpy.ndarray or None
        A row without a partner yet for the next overview.
    """

    height: int
    width: int
    path: Path
    rows: list[Pixels] = field(default_factory=list)
    waiting: int = 0
    written: int = 0
    sizes: list[int] = field(default_factory=list)
    odd: Pixels | None = None


class CogBuilder:
    """Compresses rows into tiles of an image and its overviews.

    Parameters
    ----------
    template : pathlib.Path
        GeoTIFF written by GDAL with the size, type, tags and compression of the product, its tiles all missing.
    working : pathlib.Path
        Prefix of working files.
    overview : {"nearest", "mode", "average"}
        How an overview is made from the level above it.
    nodata : float or None
        Value that takes no part in a mean.
    """

    def __init__(self, template: Path, working: Path, overview: Resampling, nodata: float | None) -> None:
        self._template = template
        self._overview = overview
        self._nodata = nodata
        with rasterio.open(template) as raster:
            height, width = raster.shape
            options = {key: raster.profile[key] for key in ("dtype", "compress")}
        with template.open("rb") as file:
            tiff = TiffFile(file, template.name)
            predictor = tiff.number(tiff.directory(tiff.first), 317, 1)
        self._options = {**options, "predictor": predictor, "zlevel": 1}
        self._levels: list[Level] = []
        while not self._levels or max(self._levels[-1].height, self._levels[-1].width) > BLOCK_PX:
            if self._levels:
                height, width = -(-height // 2), -(-width // 2)
            path = working.with_name(f"{working.name}.{len(self._levels)}.part")
            self._levels.append(Level(height, width, path))
            path.touch()

    def write(self, rows: Pixels) -> None:
        """Take the next rows, [height, width]."""
        self._take(0, rows)

    def _take(self, number: int, rows: Pixels) -> None:
        level = self._levels[number]
        if number + 1 < len(self._levels):
            paired = rows if level.odd is None else np.concatenate([level.odd, rows])
            last = level.written + level.waiting + len(rows) == level.height
            even = len(paired) if last else len(paired) // 2 * 2
            level.odd = paired[even:].copy() if even < len(paired) else None
            if even:
                self._take(number + 1, reduce_by_two(paired[:even], self._overview, self._nodata))
        at = 0
        while at < len(rows):
            taken = rows[at : at + BLOCK_PX - level.waiting]
            at += len(taken)
            level.waiting += len(taken)
            whole = level.waiting == BLOCK_PX or level.written + level.waiting == level.height
            level.rows.append(taken if whole else taken.copy())
            if whole:
                self._compress(level)

    def _compress(self, level: Level) -> None:
        """Let GDAL compress one row of tiles in memory, and keep the tiles."""
        rows = level.rows[0] if len(level.rows) == 1 else np.concatenate(level.rows)
        # GDAL warns about an image that lies nowhere; only the tiles are kept.
        shape = {"height": len(rows), "width": level.width, "transform": Affine(2.0, 0.0, 0.0, 0.0, -2.0, 0.0)}
        tiles = {"tiled": True, "blockxsize": BLOCK_PX, "blockysize": BLOCK_PX}
        with MemoryFile() as memory:
            with memory.open(driver="GTiff", count=1, **shape, **tiles, **self._options) as raster:
                raster.write(rows, 1)
            with level.path.open("ab") as file:
                for tile in _tiles(BytesIO(memory.getbuffer()), level.path.name):
                    file.write(tile)
                    level.sizes.append(len(tile))
        level.written += level.waiting
        level.rows, level.waiting = [], 0

    def assemble(self, path: Path) -> None:
        """Write the COG; every row must have come."""
        with self._template.open("rb") as file:
            tiff = TiffFile(file, self._template.name)
            entries = _entries(tiff, tiff.directory(tiff.first))
        data = sum(sum(level.sizes) + 32 * len(level.sizes) for level in self._levels)
        layout = _Layout(big=data > CLASSIC_BYTES)
        directories = [_described(entries, level, is_overview=number > 0) for number, level in enumerate(self._levels)]
        sizes = [
            layout.size(directory, len(level.sizes)) for directory, level in zip(directories, self._levels, strict=True)
        ]
        starts = layout.header_bytes + np.concatenate([[0], np.cumsum(sizes)])
        data_at = int(starts[-1])
        offsets: dict[int, NDArray[np.uint64]] = {}
        for number in reversed(range(len(self._levels))):
            counts = np.array(self._levels[number].sizes, dtype=np.uint64)
            offsets[number] = np.uint64(data_at) + np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.uint64)
            data_at += int(counts.sum())
        with path.open("wb") as out:
            out.write(layout.header())
            for number, (directory, level) in enumerate(zip(directories, self._levels, strict=True)):
                following = int(starts[number + 1]) if number + 1 < len(self._levels) else 0
                blocks = (offsets[number], np.array(level.sizes, dtype=np.uint64))
                out.write(layout.directory(directory, blocks, int(starts[number]), following))
            for level in reversed(self._levels):
                with level.path.open("rb") as tiles:
                    shutil.copyfileobj(tiles, out, 1 << 20)
                level.path.unlink()


def reduce_by_two(rows: Pixels, how: Resampling, nodata: float | None) -> Pixels:
    """Halve both axes; an odd last row or column counts for itself.

    Parameters
    ----------
    rows : numpy.ndarray
        [height, width].
    how : {"nearest", "mode", "average"}
        nearest: the upper left of four. mode: the most frequent, of equals the first in reading order. average: the
        mean of those that are not `nodata`.
    nodata : float or None
        May be NaN.

    Returns
    -------
    numpy.ndarray
        [ceil(height / 2), ceil(width / 2)], same type.
    """
    if how == "nearest":
        return rows[::2, ::2]
    odd = (len(rows) % 2, rows.shape[1] % 2)
    if any(odd):
        rows = np.pad(rows, ((0, odd[0]), (0, odd[1])), mode="edge")
    four = (rows[::2, ::2], rows[::2, 1::2], rows[1::2, ::2], rows[1::2, 1::2])
    return _most_frequent(*four) if how == "mode" else _mean(four, nodata)


def _most_frequent(first: Pixels, second: Pixels, third: Pixels, fourth: Pixels) -> Pixels:
    """Return the most frequent of four values, the first in reading order among equals."""
    out = first.copy()
    alone = (first != second) & (first != third) & (first != fourth)
    np.copyto(out, third, where=alone & (third == fourth))
    np.copyto(out, second, where=alone & ((second == third) | (second == fourth)))
    return out


def _mean(four: Sequence[Pixels], nodata: float | None) -> Pixels:
    """Mean of the valid ones of four values, rounded for integers; `nodata` where none is valid."""
    dtype = four[0].dtype
    wide = np.dtype(np.uint32 if dtype.kind == "u" else np.float64)
    valid = [np.isfinite(part) if dtype.kind == "f" else part != nodata for part in four]
    count = sum((part.astype(np.uint8) for part in valid), np.zeros(four[0].shape, np.uint8))
    total: Pixels = np.zeros(four[0].shape, wide)
    for part, good in zip(four, valid, strict=True):
        np.add(total, part, out=total, where=good, casting="unsafe")
    divisor: Pixels = np.maximum(count, 1).astype(wide)
    mean: Pixels = (total + divisor // 2) // divisor if dtype.kind == "u" else total / divisor
    return np.where(count > 0, mean, 0 if nodata is None else nodata).astype(dtype)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One tag with its values as bytes in little-endian order."""

    tag: int
    kind: int
    count: int
    raw: bytes


def _tiles(file: BinaryIO, name: str) -> list[bytes]:
    tiff = TiffFile(file, name)
    directory = tiff.directory(tiff.first)
    offsets = tiff.values(directory.fields[TILE_OFFSETS]).tolist()
    counts = tiff.values(directory.fields[TILE_COUNTS]).tolist()
    tiles = []
    for offset, count in zip(offsets, counts, strict=True):
        file.seek(offset)
        tiles.append(file.read(count))
    return tiles


def _entries(tiff: TiffFile, directory: Directory) -> list[_Entry]:
    entries = []
    for tag, place in sorted(directory.fields.items()):
        if tag not in {TILE_OFFSETS, TILE_COUNTS}:
            tiff.file.seek(place.offset)
            raw = tiff.file.read(place.count * TYPE_BYTES[place.kind])
            entries.append(_Entry(tag, place.kind, place.count, raw))
    return entries


def _described(entries: Sequence[_Entry], level: Level, *, is_overview: bool) -> list[_Entry]:
    """Tags of a level, its tiles aside: those of the image with the level's size."""
    sizes = {WIDTH: level.width, HEIGHT: level.height}
    own = [
        _Entry(entry.tag, LONG, 1, struct.pack("<I", sizes[entry.tag])) if entry.tag in sizes else entry
        for entry in entries
        if entry.tag != NEW_SUBFILE_TYPE and not (is_overview and entry.tag in ONLY_MAIN)
    ]
    if is_overview:
        own.append(_Entry(NEW_SUBFILE_TYPE, LONG, 1, struct.pack("<I", REDUCED_IMAGE)))
    return own


@dataclass(frozen=True, slots=True)
class _Layout:
    """Bytes of a little-endian TIFF with 32-bit or 64-bit offsets."""

    big: bool

    @property
    def header_bytes(self) -> int:
        return 16 if self.big else 8

    def header(self) -> bytes:
        return struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16) if self.big else struct.pack("<2sHI", b"II", 42, 8)

    def size(self, entries: Sequence[_Entry], tiles: int) -> int:
        """Bytes of a directory with everything that it points to."""
        return len(self.directory(entries, (np.zeros(tiles, np.uint64),) * 2, 0, 0))

    def directory(
        self, entries: Sequence[_Entry], blocks: tuple[NDArray[np.uint64], NDArray[np.uint64]], at: int, following: int
    ) -> bytes:
        """Directory at byte `at`, followed by the values that do not fit into it."""
        kind, code = (LONG8, "<u8") if self.big else (LONG, "<u4")
        lists = [
            _Entry(tag, kind, len(values), values.astype(code).tobytes())
            for tag, values in zip((TILE_OFFSETS, TILE_COUNTS), blocks, strict=True)
        ]
        ordered = sorted([*entries, *lists], key=lambda entry: entry.tag)
        head, inline, offset_code = ("<Q", 8, "<Q") if self.big else ("<H", 4, "<I")
        entry_code = "<HHQ" if self.big else "<HHI"
        fixed = struct.calcsize(head) + len(ordered) * (struct.calcsize(entry_code) + inline) + inline
        table, pointed = [struct.pack(head, len(ordered))], b""
        for entry in ordered:
            value = entry.raw.ljust(inline, b"\0")
            if len(entry.raw) > inline:
                value = struct.pack(offset_code, at + fixed + len(pointed))
                pointed += entry.raw + b"\0" * (-len(entry.raw) % 8)
            table.append(struct.pack(entry_code, entry.tag, entry.kind, entry.count) + value)
        table.append(struct.pack(offset_code, following))
        return b"".join(table) + pointed + b"\0" * (-(fixed + len(pointed)) % 8)
