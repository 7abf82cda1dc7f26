"""Write one product raster in strips: a valid COG that appears whole or not at all."""

from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tocsin.grid import Grid


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
    """Writer of one COG from rows in ascending order; memory and GDAL's cache are independent of the height."""

    def __init__(self, path: str | Path, grid: Grid, spec: RasterSpec) -> None:
        raise NotImplementedError

    def write_rows(self, row: int, array: NDArray[Any]) -> None:
        """Write the next rows: [height, width], dtype of the spec; ``row`` must follow the rows written before."""
        raise NotImplementedError

    def finish(self) -> None:
        """Turn the rows into a COG beside the final name (the long part of `commit`); idempotent."""
        raise NotImplementedError

    def commit(self) -> Path:
        """Finish if needed, rename onto the final name and return it."""
        raise NotImplementedError

    def discard(self) -> None:
        """Remove everything written; harmless after `commit` and when called twice."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Discard what was not committed."""
        self.discard()
