"""Write one product raster in strips: a valid COG that appears whole or not at all."""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import rasterio
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError

from tocsin.errors import StorageFullError, TruncatedError, UsageError
from tocsin.grid import Grid
from tocsin.raster.cog import BLOCK_PX, CogBuilder
from tocsin.raster.opening import READ_OPTIONS, bound_cache
from tocsin.raster.source import Limits
from tocsin.raster.tiff import check_tiff

# DEFLATE is read by every GIS; level 1 (see `CogBuilder`) costs a third of level 9 and 5 % more bytes on probabilities.
TILES: dict[str, str | int | bool] = {
    "tiled": True,
    "blockxsize": BLOCK_PX,
    "blockysize": BLOCK_PX,
    "compress": "DEFLATE",
    "sparse_ok": True,
}
PREDICTOR = {"uint8": 1, "uint16": 2, "float32": 3}
# Own files are whatever size the scene has: only their completeness is checked.
NO_LIMITS = Limits(max_pixels=2**62, max_width=2**31)


class RasterSpec(BaseModel):
    """What a product raster holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dtype: Literal["uint8", "uint16", "float32"] = Field(description="Type of a pixel.")
    nodata: float | None = Field(description="Value of a pixel without data, NaN allowed for float32; None: none.")
    scale: float = Field(default=1.0, gt=0, description="Physical value = stored value x scale.")
    unit: str = Field(default="", description="Unit of the physical value.")
    description: str = Field(default="", description="Band description.")
    tags: dict[str, str] = Field(default_factory=dict, description="Dataset tags: model, weights, versions; no times.")
    overview: Literal["nearest", "mode", "average"] = Field(description="nearest or mode for classes and bits.")
    colormap: dict[int, tuple[int, int, int, int]] | None = Field(
        default=None, description="RGBA 0-255 per value, uint8 only."
    )


class RasterWriter:
    """Writer of one single-band COG from rows in ascending order.

    Rows are compressed into working files beside the product as they come; `finish` joins them and `commit` renames.
    Working files are called ``.tocsin-*.part``, which matches no product. Memory does not depend on the height. The
    same rows give the same bytes.

    Parameters
    ----------
    path
        Final name; its folder must exist. An existing file is replaced at `commit`, not before.
    grid
        Grid of the product.
    spec
        What it holds.

    Raises
    ------
    UsageError
        The folder does not exist or may not be written.
    StorageFullError
        At once when the rows cannot fit, else from any method when the disk fills up.
    """

    def __init__(self, path: str | Path, grid: Grid, spec: RasterSpec) -> None:
        self.path = Path(path).absolute()
        self.grid = grid
        self.spec = spec
        self._next_row = 0
        self._state: Literal["open", "finished", "committed", "discarded"] = "open"
        folder = self.path.parent
        stem = f".tocsin-{secrets.token_hex(8)}"
        self._template_path, self._cog_path = folder / f"{stem}.tags.part", folder / f"{stem}.cog.part"
        self._pattern = f"{stem}*"
        if not folder.is_dir():
            raise UsageError(f"{folder}, which is no folder", "a folder for products", "create it first")
        needed = grid.height * grid.width * np.dtype(spec.dtype).itemsize
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise self._full(f"{free} bytes free, {needed} needed")
        bound_cache()
        try:
            with self._storage_errors():
                self._create()
                self._cog = CogBuilder(self._template_path, folder / stem, spec.overview, spec.nodata)
        except PermissionError as error:
            raise UsageError(f"{folder}, which may not be written", "a writable folder", "choose another") from error

    def _create(self) -> None:
        """Let GDAL write everything but the pixels."""
        self._template_path.touch(exist_ok=False)
        spec, grid = self.spec, self.grid
        with (
            rasterio.Env(**READ_OPTIONS),
            rasterio.open(
                self._template_path,
                "w",
                driver="GTiff",
                count=1,
                height=grid.height,
                width=grid.width,
                dtype=spec.dtype,
                crs=grid.crs,
                transform=grid.transform,
                nodata=spec.nodata,
                predictor=PREDICTOR[spec.dtype],
                **TILES,
            ) as dataset,
        ):
            dataset.update_tags(**spec.tags)
            dataset.set_band_description(1, spec.description)
            if spec.scale != 1.0:
                dataset.scales = (spec.scale,)
            if spec.unit:
                dataset.units = (spec.unit,)
            if spec.colormap is not None:
                dataset.write_colormap(1, spec.colormap)

    def write_rows(self, row: int, array: NDArray[Any]) -> None:
        """Write the next rows.

        Parameters
        ----------
        row
            First row; the row after the last one written.
        array
            [height, width] in the dtype of the spec, stored values (not scaled).
        """
        assert self._state == "open", f"rows after {self._state}"
        assert row == self._next_row, f"row {row} after {self._next_row}"
        assert array.ndim == 2, f"{array.ndim} axes"
        assert array.shape[1] == self.grid.width, f"{array.shape[1]} columns for {self.grid.width}"
        assert array.dtype == np.dtype(self.spec.dtype), f"{array.dtype} for {self.spec.dtype}"
        height = array.shape[0]
        if height == 0:
            return
        with self._storage_errors():
            self._cog.write(array)
        self._next_row = row + height

    def finish(self) -> None:
        """Join the working files to a COG beside the final name (the long part of `commit`); idempotent."""
        if self._state != "open":
            return
        assert self._next_row == self.grid.height, f"{self._next_row} of {self.grid.height} rows written"
        with self._storage_errors():
            self._cog.assemble(self._cog_path)
            # What counts is whether all bytes are there.
            check_tiff(self._cog_path, str(self.path), NO_LIMITS)
        self._template_path.unlink()
        self._state = "finished"

    def commit(self) -> Path:
        """Finish if needed, rename onto the final name and return it; idempotent."""
        if self._state == "committed":
            return self.path
        self.finish()
        assert self._state == "finished", f"commit after {self._state}"
        self._cog_path.replace(self.path)
        self._state = "committed"
        return self.path

    def discard(self) -> None:
        """Remove everything written; harmless after `commit` and when called twice."""
        if self._state in {"committed", "discarded"}:
            return
        self._state = "discarded"
        for left in self.path.parent.glob(self._pattern):
            left.unlink(missing_ok=True)

    @contextmanager
    def _storage_errors(self) -> Iterator[None]:
        """Turn failures to write into `StorageFullError`, leaving no working file behind."""
        try:
            yield
        except PermissionError:
            raise
        # rasterio raises SystemError for a failure that GDAL only printed.
        except (RasterioError, CPLE_BaseError, OSError, SystemError, TruncatedError) as error:
            self.discard()
            raise self._full(str(error)) from error

    def _full(self, reason: str) -> StorageFullError:
        return StorageFullError(
            f"{self.path.parent} while writing {self.path.name} ({reason})",
            "room for the products (see --dry-run)",
            "free some space or choose another folder with -o",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Discard what was not committed."""
        self.discard()
