"""Is it terrain height in metres? Judged from what the file states and from a bounded sample, before any scoring."""

from typing import Final

import numpy as np
from pyproj import CRS
from pyproj.exceptions import CRSError

from tocsin.errors import WrongUnitsError
from tocsin.raster import Raster
from tocsin.raster.sampling import sample_windows

LOWEST_M: Final = -500.0
HIGHEST_M: Final = 9000.0
"""No land lies lower than the Dead Sea or higher than the Himalaya, with room for errors and other height datums."""

FOOT: Final = ("ft", "foot", "feet", "us survey foot", "us-ft", "usft", "ftus")


def check_heights(raster: Raster) -> bool:
    """Refuse heights that are not in metres.

    Parameters
    ----------
    raster
        The elevation model; its first band is judged.

    Returns
    -------
    bool
        Whether the sample holds any height: False is a void.

    Raises
    ------
    WrongUnitsError
        The band or the vertical CRS is in feet, or heights lie where there is no land.
    """
    stated = raster.units[0].strip().lower()
    if stated in FOOT or _vertical_unit(raster) in FOOT:
        raise _not_metres(f"{raster.href}, which states heights in feet")
    windows = sample_windows(raster.grid.shape, raster.block_shape)
    heights = np.concatenate([raster.read(window, (0,)).ravel() for window in windows])
    heights = heights[np.isfinite(heights)]
    if heights.size and (heights.min() < LOWEST_M or heights.max() > HIGHEST_M):
        raise _not_metres(f"{raster.href} with heights of {heights.min():.4g} to {heights.max():.4g}")
    return bool(heights.size)


def _vertical_unit(raster: Raster) -> str:
    """Return the unit of the third axis of the CRS, "" when it has none."""
    try:
        axes = CRS.from_wkt(raster.grid.crs.to_wkt()).axis_info
    except CRSError:
        return ""
    return axes[2].unit_name.lower() if len(axes) > 2 else ""


def _not_metres(given: str) -> WrongUnitsError:
    return WrongUnitsError(
        given,
        f"terrain heights in metres, {LOWEST_M:g} to {HIGHEST_M:g}, and other values declared as nodata",
        "convert it (gdal_calc --calc=A*0.3048 for feet), or declare its nodata value (gdal_edit -a_nodata)",
    )
