"""Open one raster file, refusing what is hostile, and read it with one rule of validity.

What lies beside a file (``.aux.xml``, ``.ovr``, ``.msk``, world files) is never read: a product depends on the bytes
whose hash its provenance states, and a side file cannot point elsewhere.
"""

import hashlib
import math
import threading
import warnings
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.env import set_gdal_config
from rasterio.errors import NotGeoreferencedWarning, RasterioError, RasterioIOError
from rasterio.windows import Window as RasterioWindow

from tocsin.errors import (
    GridMismatchError,
    NoGeoreferenceError,
    NotARasterError,
    TooLargeError,
    TruncatedError,
    UsageError,
    WrongBandsError,
    WrongUnitsError,
)
from tocsin.grid import Grid, Window
from tocsin.raster.acquired import Acquired, acquired
from tocsin.raster.locating import locate, raster_driver
from tocsin.raster.source import BandArray, ClosingSource, Limits
from tocsin.raster.tiff import check_shape, check_tiff
from tocsin.raster.validity import to_physical

READ_OPTIONS = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_PAM_ENABLED": "NO"}
# GDAL's default is 5 % of the machine's memory, shared by all files: too much beside a promise of bounded memory.
GDAL_CACHE_BYTES = 64 * 2**20
# Largest |b| / |a| of a geotransform that still counts as unrotated: a tenth of a pixel over 1e5 pixels.
ROTATION_TOLERANCE = 1e-6

_COMPLEX = "backscatter: calibrate and detect it (gamma0) first; interferogram: write its angle, the wrapped phase"

_cache_lock = threading.Lock()
_cache_bounded = threading.Event()


def bound_cache() -> None:
    """Bound GDAL's block cache, once per process; it is global, so an `Env` would fight with other threads."""
    with _cache_lock:
        if not _cache_bounded.is_set():
            set_gdal_config("GDAL_CACHEMAX", GDAL_CACHE_BYTES)
            _cache_bounded.set()


class Raster(ClosingSource):
    """One open raster file: a `Source` of all its bands but alpha.

    Values are physical (stored value x scale + offset, as the file states). A pixel is NaN where its band holds the
    nodata value, NaN or infinity, where the internal mask or alpha is 0, and outside the file. Made by `open_raster`.

    Attributes
    ----------
    href
        What the caller passed.
    path
        Absolute path.
    grid
        Where the pixels lie.
    descriptions
        One text per band, "" where the file has none.
    units
        Unit of each band as the file states it, "" where it does not.
    tags
        Dataset tags.
    block_shape
        Height and width of the strips or tiles in which the file is stored.
    """

    def __init__(self, href: str, path: Path, dataset: Any) -> None:  # noqa: ANN401 - rasterio has no types
        self.href = href
        self.path = path
        self._dataset = dataset
        self._lock = threading.RLock()
        # GDAL drops an alpha interpretation that a float file gets late; a band that is called alpha still is one.
        named = [str(text or "").strip().lower() == "alpha" for text in dataset.descriptions]
        kinds = zip(dataset.colorinterp, named, strict=True)
        self._alpha = [index for index, (kind, alpha) in enumerate(kinds, 1) if alpha or kind == ColorInterp.alpha]
        self._indexes = [index for index in range(1, dataset.count + 1) if index not in self._alpha]
        flags = dataset.mask_flag_enums[0]
        self._has_mask = MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags
        self.grid = Grid(dataset.crs, dataset.transform, dataset.height, dataset.width)
        self.descriptions = tuple(dataset.descriptions[index - 1] or "" for index in self._indexes)
        self.units = tuple(dataset.units[index - 1] or "" for index in self._indexes)
        self.tags: dict[str, str] = {**dataset.tags(ns="IMAGERY"), **dataset.tags()}
        self.block_shape: tuple[int, int] = dataset.block_shapes[0]

    @property
    def count(self) -> int:
        """Number of bands, alpha not counted."""
        return len(self._indexes)

    @property
    def acquired(self) -> Acquired | None:
        """Acquisition time from tags or a known file name, None when unknown."""
        return acquired(str(self.path), self.tags)

    @property
    def nodata(self) -> float | None:
        """Nodata value of the first band, None when the file declares none."""
        value = self._dataset.nodatavals[0]
        return None if value is None else float(value)

    @property
    def integer(self) -> bool:
        """Whether the first band is stored as whole numbers without a scale."""
        whole = np.dtype(self._dataset.dtypes[self._indexes[0] - 1]).kind in "iu"
        return whole and float(self._dataset.scales[self._indexes[0] - 1]) == 1.0

    def read(self, window: Window, bands: tuple[int, ...] | None = None) -> BandArray:
        """Return the pixels of a window.

        Parameters
        ----------
        window
            May reach outside the file on any side.
        bands
            Positions among the bands, counted from 0 without alpha; default all.

        Returns
        -------
        ndarray
            float32 [band, row, col], physical values, NaN where invalid and outside.

        Raises
        ------
        TruncatedError
            When the body of the file is damaged or ends early.
        """
        chosen = self._indexes if bands is None else [self._indexes[band] for band in bands]
        out = np.full((len(chosen), window.height, window.width), np.nan, dtype=np.float32)
        inside = window.intersection(self.grid.window)
        if inside is None:
            return out
        rows = slice(inside.row - window.row, inside.row_stop - window.row)
        cols = slice(inside.col - window.col, inside.col_stop - window.col)
        out[:, rows, cols] = self._read_inside(inside, chosen)
        return out

    def _read_inside(self, window: Window, indexes: list[int]) -> BandArray:
        place = RasterioWindow(window.col, window.row, window.width, window.height)
        with self._lock:
            dataset = self._dataset
            if dataset.closed:
                raise UsageError(f"{self.href}, already closed", "an open raster", "open it again before reading")
            try:
                stored = dataset.read(indexes, window=place)
                masks = [dataset.read(index, window=place) for index in self._alpha]
                if self._has_mask:
                    masks.append(dataset.read_masks(1, window=place))
            except RasterioError as error:
                raise _damaged(self.href) from error
            facts = [
                (dataset.nodatavals[index - 1], dataset.scales[index - 1], dataset.offsets[index - 1])
                for index in indexes
            ]
        values = np.stack([to_physical(band, *fact) for band, fact in zip(stored, facts, strict=True)])
        for mask in masks:
            values[:, mask == 0] = np.nan
        return values

    @cached_property
    def _digest(self) -> str:
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def sha256(self) -> str:
        """Return the SHA-256 of the file's bytes, streamed at the first call."""
        return self._digest

    def close(self) -> None:
        """Release the file."""
        with self._lock:
            self._dataset.close()


def open_raster(href: str | Path, limits: Limits | None = None) -> Raster:
    """Open a raster after the checks on hostile files.

    Parameters
    ----------
    href
        Path of a local GeoTIFF, COG or SRTM ``.hgt`` tile.
    limits
        Largest raster accepted.

    Raises
    ------
    UsageError
        Nothing there, or no file.
    ForbiddenReferenceError
        A URL or a GDAL virtual path.
    NotARasterError, TruncatedError, TooLargeError
        No raster (a VRT or WMS document names others and is none), not all of it, or too much of it.
    NoGeoreferenceError
        No CRS or no geotransform; ground control points alone (an uncorrected radar image) count as none.
    GridMismatchError
        A rotated or south-up grid.
    WrongBandsError, WrongUnitsError
        No band but alpha; complex values.
    """
    limits = limits or Limits()
    name, path = str(href), locate(href)
    if path.is_dir():
        raise UsageError(f"{name}, a folder", "a raster file", "pass one file of the folder")
    driver = raster_driver(path, name)
    if driver == "GTiff":
        check_tiff(path, name, limits)
    bound_cache()
    dataset = _open_dataset(path, name, driver)
    try:
        _check_dataset(dataset, name, limits)
        return Raster(name, path, dataset)
    except BaseException:
        dataset.close()
        raise


def _open_dataset(path: Path, name: str, driver: str) -> Any:  # noqa: ANN401 - rasterio has no types
    with rasterio.Env(**READ_OPTIONS), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # said below, as an error
        try:
            return rasterio.open(path, driver=driver)
        except RasterioIOError as error:
            raise NotARasterError(
                f"{name}, a {driver} file that GDAL cannot open ({error})",
                "a readable GeoTIFF, COG or SRTM .hgt tile",
                "check the file with gdalinfo, or write it again",
            ) from error


def _damaged(name: str) -> TruncatedError:
    return TruncatedError(
        f"{name}, whose pixels cannot be read to the end",
        "a whole, undamaged file",
        "copy or download the file again and compare its size or checksum with the original",
    )


def _check_dataset(dataset: Any, name: str, limits: Limits) -> None:  # noqa: ANN401 - rasterio has no types
    check_shape(name, dataset.shape, dataset.count, limits)
    if all(kind == ColorInterp.alpha for kind in dataset.colorinterp):
        raise WrongBandsError(f"{name} with an alpha band only", "a band of values", "pass the file with the data")
    stored = dataset.dtypes[0]
    kind = np.dtype("c8" if stored.startswith("complex") else stored)
    if kind.kind not in "iuf":
        raise WrongUnitsError(f"{name} with complex values", "real values", _COMPLEX)
    rows, cols = dataset.block_shapes[0]
    together = dataset.count if str(dataset.profile.get("interleave", "band")).lower() == "pixel" else 1
    block = rows * cols * kind.itemsize * together
    if block > limits.max_block_bytes:
        raise TooLargeError(
            f"{name}, stored in blocks of {block} bytes",
            f"at most {limits.max_block_bytes}",
            "gdal_translate -of COG, then pass the result",
        )
    _check_georeference(dataset, name)


def _check_georeference(dataset: Any, name: str) -> None:  # noqa: ANN401 - rasterio has no types
    crs, at = dataset.crs, dataset.transform
    if crs is None or not (crs.is_geographic or crs.is_projected) or at == Affine.identity():
        points = " but ground control points only" if dataset.gcps[0] else ""
        raise NoGeoreferenceError(
            f"{name} with no CRS and geotransform{points}",
            "a terrain-corrected, georeferenced raster",
            "terrain-correct the scene (RTC), or set both with gdal_edit",
        )
    numbers = [float(value) for value in at[:6]]
    if not all(math.isfinite(value) for value in numbers) or at.a == 0 or at.e == 0:
        raise NoGeoreferenceError(
            f"{name} with geotransform {numbers}", "pixels of finite size", "set it with gdal_edit"
        )
    if max(abs(at.b / at.a), abs(at.d / at.e)) > ROTATION_TOLERANCE or at.a < 0 or at.e > 0:
        raise GridMismatchError(
            f"{name} with a rotated, mirrored or south-up geotransform {numbers}",
            "a north-up grid",
            "warp it to north-up with gdalwarp",
        )
    grid = Grid(crs, at, dataset.height, dataset.width)
    if crs.is_geographic:
        edges = np.degrees(np.array(grid.bounds) * float(crs.units_factor[1]))
        if max(abs(edges[1]), abs(edges[3])) > 91 or max(abs(edges[0]), abs(edges[2])) > 541:
            raise NoGeoreferenceError(
                f"{name} with bounds {edges.tolist()} in degrees",
                "latitudes within 90 degrees",
                "set the CRS that its coordinates are in with gdal_edit -a_srs",
            )
