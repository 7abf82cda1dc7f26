"""What radar cannot judge or the user took out, row by row: the bits of ``*_exclusion.tif`` of every hazard."""

import json
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tocsin.grid import Window
from tocsin.raster import RasterSpec, Source
from tocsin.terrain import LAYOVER, NOT_JUDGED, REACH_M, SHADOW, STEEP, USER, BitArray, Terrain

BITS = {LAYOVER: "layover", SHADOW: "shadow", STEEP: "steep", USER: "user"}
"""Meaning of each bit."""


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Terrain and the user's own exclusion of one scene.

    Attributes
    ----------
    terrain : Terrain
        Judges heights.
    dem : Source or None
        Heights, m, on the scene's own grid; None: layover, shadow and slope are not judged.
    by_user : Source or None
        Above 0 where the user excluded, on the same grid.
    """

    terrain: Terrain
    dem: Source | None = None
    by_user: Source | None = field(default=None)

    def __bool__(self) -> bool:
        """Whether anything can be excluded at all."""
        return self.dem is not None or self.by_user is not None

    def bits(self, window: Window) -> BitArray:
        """Return the bits of whole rows of the scene, uint8 [height, width]; `NOT_JUDGED` where a DEM has no height."""
        return self.with_user(window, self.of_terrain(window))

    def of_terrain(self, window: Window) -> BitArray:
        """Return what the DEM alone says of whole rows; 0 without one."""
        if self.dem is None:
            return np.zeros(window.shape, dtype=np.uint8)
        return self.terrain.judge(self.dem, window.row, window.height)

    def with_user(self, window: Window, bits: BitArray) -> BitArray:
        """Add what the user excluded to the bits of whole rows, in place."""
        if self.by_user is not None:
            taken = self.by_user.read(window)[0] > 0
            # What the user excluded is decided, whatever the DEM does not know.
            bits[taken] = np.where(bits[taken] == NOT_JUDGED, 0, bits[taken]) | USER
        return bits

    def spec(self, tags: dict[str, str], orbit_pass: str) -> RasterSpec:
        """Describe the raster of bits; no data is where a DEM was given but has no height.

        Parameters
        ----------
        tags
            Of every raster product.
        orbit_pass
            What was known or assumed of the direction of flight, in words.
        """
        more = {"TOCSIN_BITS": json.dumps({str(bit): name for bit, name in BITS.items()})}
        if self.dem is not None:
            more |= {
                "TOCSIN_ORBIT_PASS": orbit_pass,
                "TOCSIN_LOOK_AZIMUTH_DEG": ", ".join(f"{azimuth:.1f}" for azimuth in self.terrain.azimuths_deg),
                "TOCSIN_INCIDENCE_DEG": f"{self.terrain.incidence_deg:g}",
                "TOCSIN_STEEP_DEG": f"{self.terrain.steep_deg:g}",
                "TOCSIN_REACH_M": f"{REACH_M:g}",
            }
        return RasterSpec(
            dtype="uint8",
            nodata=NOT_JUDGED,
            description="what radar cannot judge (bits)",
            tags=tags | more,
            overview="nearest",
        )


def blocked_by(bits: BitArray) -> npt.NDArray[np.bool_]:
    """Whether a pixel is excluded: bool of the same shape."""
    blocked: npt.NDArray[np.bool_] = (bits != 0) & (bits != NOT_JUDGED)
    return blocked
