"""Which pixels were measured: the one place where nodata, mask band, alpha, NaN and infinity become NaN."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tocsin.raster.source import BandArray

BoolArray = NDArray[np.bool_]

# Above it a float nodata is a sentinel such as -3.4028235e38, which files round in many ways.
SENTINEL = 1e30


def is_nodata(stored: NDArray[Any], nodata: float | None) -> BoolArray:
    """Return where stored values equal the nodata value, compared in the stored type.

    Parameters
    ----------
    stored
        One band as in the file, any real dtype, any shape.
    nodata
        The band's nodata value, None when the file declares none.

    Returns
    -------
    ndarray
        bool, same shape. A nodata value that the type cannot hold matches nothing.
    """
    if nodata is None or np.isnan(nodata):
        return np.zeros(stored.shape, dtype=np.bool_)
    if stored.dtype.kind in "iu":
        info = np.iinfo(stored.dtype)
        if nodata != int(nodata) or not info.min <= nodata <= info.max:
            return np.zeros(stored.shape, dtype=np.bool_)
        return np.asarray(stored == stored.dtype.type(int(nodata)))
    if abs(nodata) > SENTINEL:
        return np.asarray(np.abs(stored / nodata - 1) < 1e-5)
    return np.asarray(stored == stored.dtype.type(nodata))


def to_physical(stored: NDArray[Any], nodata: float | None, scale: float, offset: float) -> BandArray:
    """Return one band as float32 physical values, NaN where it is nodata, NaN or infinite.

    Parameters
    ----------
    stored
        [row, col] as in the file, any real dtype.
    nodata
        The band's nodata value, None when the file declares none.
    scale, offset
        Physical value = stored value x scale + offset.

    Returns
    -------
    ndarray
        float32 [row, col].
    """
    invalid = is_nodata(stored, nodata)
    if scale == 1.0 and offset == 0.0:
        with np.errstate(over="ignore", invalid="ignore"):
            values = stored.astype(np.float32)
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            values = (stored.astype(np.float64) * scale + offset).astype(np.float32)
    invalid |= ~np.isfinite(values)
    values[invalid] = np.nan
    return np.asarray(values)
