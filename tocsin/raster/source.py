"""What every readable raster looks like to the rest of tocsin, and the limits on what is opened."""

from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tocsin.grid import Grid, Window

BandArray = NDArray[np.float32]


class Limits(BaseModel):
    """Largest raster that is opened; checked on the header, before anything is allocated."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_pixels: int = Field(default=1_000_000_000, gt=0, description="Height x width, pixels.")
    max_width: int = Field(default=200_000, gt=0, description="Memory grows with a scene's width, pixels.")
    max_bands: int = Field(default=256, gt=0, description="Bands of one file.")
    max_block_bytes: int = Field(
        default=512 * 2**20, gt=0, description="Largest strip or tile, decompressed: it is read whole, bytes."
    )


class Source(Protocol):
    """Pixels on a grid, read window by window.

    A source may be read from any thread; reads of one source are serialised inside.
    """

    @property
    def grid(self) -> Grid:
        """Where the pixels lie."""
        ...

    def read(self, window: Window) -> BandArray:
        """Return the pixels of a window.

        Parameters
        ----------
        window
            May reach outside the grid on any side.

        Returns
        -------
        ndarray
            float32 [band, row, col], physical units of the source; NaN where invalid and outside the grid.

        Raises
        ------
        TruncatedError
            When the file ends before the data that its header promises.
        """
        ...

    def close(self) -> None:
        """Release the files; reading afterwards is an error, closing twice is not."""
        ...


class ClosingSource:
    """Context manager for sources: leaving the block closes."""

    def close(self) -> None:
        """Release the files; the default holds none."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
