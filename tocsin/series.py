"""LiCSAR time series as npz: unwrapped line-of-sight motion over time.

The form is that of LiCSAlert (Gaddes et al. 2018); metres are positive toward the satellite (`tocsin.phase`).
"""

from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Final
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from tocsin.errors import TruncatedError, UsageError, WrongDatesError
from tocsin.phase import of_motion

LEAST_EPOCHS: Final = 3


@dataclass(frozen=True)
class LicsarSeries:
    """Line-of-sight motion over time; all metres are positive toward the satellite.

    Attributes
    ----------
    increments_m
        float32 [epoch, row, col], motion since the epoch before, NaN where missing. That of the first epoch is relative
        to an acquisition whose day the file does not tell.
    cumulative_m
        float32 [epoch, row, col], their sum up to each epoch.
    dates
        Day of each epoch, ascending.
    lats, lons
        float64 [row], [col], degrees, centres of pixels.
    dem_m
        float32 [row, col], height, NaN where missing.
    """

    increments_m: NDArray[np.float32]
    cumulative_m: NDArray[np.float32]
    dates: tuple[date, ...]
    lats: NDArray[np.float64]
    lons: NDArray[np.float64]
    dem_m: NDArray[np.float32]

    def phase(self, epoch: int) -> NDArray[np.float32]:
        """Return the wrapped phase of one increment: float32 [row, col], rad, positive where the range grew."""
        return of_motion(self.increments_m[epoch])

    def pair_phase(self, first: int, second: int) -> NDArray[np.float32]:
        """Return the wrapped phase between two epochs: float32 [row, col], rad, positive where the range grew."""
        return of_motion(self.cumulative_m[second] - self.cumulative_m[first])


def read_series(path: str | Path) -> LicsarSeries:
    """Read a time series: ``inc``, ``cml`` [epoch, row, col] in m, ``dates``, ``lats``, ``lons``, ``dem``.

    Raises
    ------
    UsageError
        When there is no such file, or arrays are missing or of other shapes.
    TruncatedError
        When it is damaged.
    WrongDatesError
        When dates are no days, do not ascend or are fewer than three.
    """
    names = ("inc", "cml", "dates", "lats", "lons", "dem")
    try:
        # numpy leaves a damaged archive open when it opens it itself.
        with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in names if name in file.files}
    except (BadZipFile, EOFError) as error:
        raise TruncatedError(given=f"{path} ({error})", expected="a whole npz file", todo="copy it again") from error
    except (OSError, ValueError, AttributeError) as error:
        raise UsageError(given=f"{path} ({error})", expected="a series as npz", todo="pass its path") from error
    epochs = arrays["inc"].shape[0] if "inc" in arrays and arrays["inc"].ndim == 3 else 0
    rows, cols = arrays["inc"].shape[1:] if epochs else (0, 0)
    shapes = ((epochs, rows, cols), (epochs, rows, cols), (epochs,), (rows,), (cols,), (rows, cols))
    found = {name: array.shape for name, array in arrays.items()}
    if not epochs or found != dict(zip(names, shapes, strict=True)):
        raise UsageError(
            given=f"{path} with {found}",
            expected="inc and cml [epoch, row, col], dates [epoch], lats [row], lons [col], dem [row, col]",
            todo="write the series in this form",
        )
    inc, cml, dem = (arrays[name].astype(np.float32) for name in ("inc", "cml", "dem"))
    dates = _ascending(arrays["dates"], path)
    return LicsarSeries(inc, cml, dates, arrays["lats"].astype(float), arrays["lons"].astype(float), dem)


def _ascending(texts: NDArray[np.str_], path: str | Path) -> tuple[date, ...]:
    """Return the days of a series when they are days, in order and enough."""
    try:
        days = tuple(date.fromisoformat(str(text)) for text in texts)
    except ValueError as error:
        raise WrongDatesError(given=f"{path} ({error})", expected="dates YYYY-MM-DD", todo="mend dates") from error
    if len(days) < LEAST_EPOCHS or any(later <= earlier for earlier, later in pairwise(days)):
        raise WrongDatesError(
            given=f"{path} with {len(days)} epochs",
            expected=f"at least {LEAST_EPOCHS} epochs in ascending order",
            todo="pass a longer series, sorted",
        )
    return days
