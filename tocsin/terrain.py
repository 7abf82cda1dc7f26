"""What side-looking radar cannot judge in relief: layover, shadow and steep slopes, from a DEM and the geometry.

Sentinel-1 looks right. A plane wave at incidence theta comes along the look direction. Ground at range x and height z
has slant range x sin(theta) - z cos(theta), and a ray rises above it by x cot(theta). Then (Kropatsch and Strobl 1990,
IEEE TGRS 28(1); Meier, Frei and Nuesch 1993, in Schreier, SAR Geocoding; Small 2011, IEEE TGRS 49(8)):

- layover: some ground at distance d beyond is higher by d tan(theta) or more, or some ground at d before is lower by as
  much: both share their slant range with something else. This holds the active part (slopes steeper than theta) and
  both passive parts.
- shadow: some ground at distance d before is higher by more than d cot(theta): this holds slopes that turn away by more
  than 90 degrees - theta, and what they cast.
- steep: slope above a bound of the hazard (`STEEP_DEG` unless it has its own), where backscatter says little.

Look direction, pixel size and incidence are those of the scene's centre. Relief is searched up to `REACH_M` away.
"""

import math
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from tocsin.grid import Grid, Window
from tocsin.raster import Source

LAYOVER: Final = 1
SHADOW: Final = 2
STEEP: Final = 4
USER: Final = 8
NOT_JUDGED: Final = 255
"""Bits of ``*_exclusion.tif``, and its value where a DEM was given but has no height: nothing was judged there."""

STEEP_DEG: Final = 20.0
"""Slope above which backscatter says little about water, degrees: at mid-swath the local incidence then leaves
18-58. Hazards that lie on slopes have a value of their own."""

REACH_M: Final = 2500.0
"""Distance searched for relief that hides or overlays a pixel, m: enough for 1900 m above it (layover), 3200 m
(shadow)."""

MID_SWATH_DEG: Final = 37.6
"""Incidence at the middle of the IW swath (29.1 to 46.0), degrees: assumed when it is unknown."""

# Sentinel-1: inclination, and 175 revolutions in 12 days.
_INCLINATION_DEG: Final = 98.18
_REVOLUTIONS_PER_DAY: Final = 175 / 12
_HIGHEST_LATITUDE_DEG: Final = 81.5

_TILE: Final = 4096
"""Columns judged at once: bounds memory on wide scenes."""

Kind = TypeVar("Kind", bound=np.generic)
Pass = Literal["ascending", "descending"]
HeightArray = npt.NDArray[np.float32]
BitArray = npt.NDArray[np.uint8]


def look_azimuth_deg(orbit_pass: Pass, latitude_deg: float) -> float:
    """Azimuth in which Sentinel-1 looks: 78 (ascending) and 282 (descending) at the equator, 76 and 284 at 45 degrees.

    The angle between ground track and meridian is that of Capderou (2005), Satellites: Orbits and Missions, section
    5.4: tan(j) = (cos i - cos(lat)^2 / k) / sqrt(cos(lat)^2 - cos(i)^2), with k revolutions a day. The antenna looks
    90 degrees right of it.

    Parameters
    ----------
    orbit_pass : {"ascending", "descending"}
        Direction of flight.
    latitude_deg : float
        Of the scene's centre; beyond the orbit's turning point its value there is taken.

    Returns
    -------
    float
        Degrees clockwise from north, 0 to 360.
    """
    latitude = math.radians(min(abs(latitude_deg), _HIGHEST_LATITUDE_DEG))
    inclination = math.cos(math.radians(_INCLINATION_DEG))
    squared = math.cos(latitude) ** 2
    track = math.atan2(inclination - squared / _REVOLUTIONS_PER_DAY, math.sqrt(squared - inclination**2))
    headings: dict[Pass, float] = {"ascending": math.degrees(track), "descending": 180 - math.degrees(track)}
    return (headings[orbit_pass] + 90) % 360


@dataclass(frozen=True, slots=True)
class _Look:
    """One look direction on the pixels: steps along columns (or rows, when `transposed`), away from the sensor.

    Attributes
    ----------
    transposed, flipped : bool
        How to turn a block so that its columns run away from the sensor.
    drift : float
        Rows per column of the turned block.
    step_m : float
        Metres per column.
    """

    transposed: bool
    flipped: bool
    drift: float
    step_m: float

    @property
    def levels(self) -> int:
        """The search covers 2 ** levels columns."""
        return max(0, math.ceil(math.log2(REACH_M / self.step_m)))

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """(row, column) of each doubling of the search."""
        return [(round(2**level * self.drift), 2**level) for level in range(self.levels)]

    @property
    def halo(self) -> tuple[int, int]:
        """Rows and columns, before turning, that a block needs on each side."""
        first = abs(round(self.drift))
        across = first + sum(abs(row) for row, _ in self.offsets)
        along = 1 + sum(col for _, col in self.offsets)
        return (along, across) if self.transposed else (across, along)

    def turn(self, block: npt.NDArray[Kind]) -> npt.NDArray[Kind]:
        """Turn a block so that its columns run away from the sensor; turning back is `turn_back`."""
        turned = block.T if self.transposed else block
        return turned[:, ::-1] if self.flipped else turned

    def turn_back(self, block: npt.NDArray[Kind]) -> npt.NDArray[Kind]:
        """Undo `turn`."""
        turned = block[:, ::-1] if self.flipped else block
        return turned.T if self.transposed else turned


class Terrain:
    """Judges rows of a scene by a DEM.

    Parameters
    ----------
    grid : Grid
        The scene's grid.
    orbit_pass : {"ascending", "descending"} or None
        None: what either pass could not see is marked.
    incidence_deg : float or None
        At the scene's centre; None: `MID_SWATH_DEG`.
    azimuths_deg : tuple of float or None
        Look azimuths in place of Sentinel-1's; empty: only slopes are judged.
    steep_deg : float
        Slope above which a pixel is steep, degrees.
    """

    def __init__(
        self,
        grid: Grid,
        orbit_pass: Pass | None = None,
        incidence_deg: float | None = None,
        azimuths_deg: tuple[float, ...] | None = None,
        steep_deg: float = STEEP_DEG,
    ) -> None:
        self.steep_deg = steep_deg
        self.incidence_deg = MID_SWATH_DEG if incidence_deg is None else incidence_deg
        latitude, frame = _frame(grid)
        passes: tuple[Pass, ...] = ("ascending", "descending") if orbit_pass is None else (orbit_pass,)
        if azimuths_deg is None:
            azimuths_deg = tuple(look_azimuth_deg(one, latitude) for one in passes)
        self.azimuths_deg = azimuths_deg
        self._pixel_m = grid.pixel_size_m()
        self._looks = [_look(azimuth, frame) for azimuth in self.azimuths_deg]

    @property
    def halo(self) -> tuple[int, int]:
        """Rows and columns beyond the wanted ones that decide them."""
        rows, cols = zip((1, 1), *(look.halo for look in self._looks), strict=True)
        return max(rows), max(cols)

    def judge(self, dem: Source, row: int, height: int) -> BitArray:
        """Return the bits of some rows of the scene.

        Parameters
        ----------
        dem : Source
            One band on the scene's grid, heights in m. What it gives beyond the scene is used.
        row, height : int
            Rows of the scene.

        Returns
        -------
        numpy.ndarray
            uint8 [height, width]: sum of `LAYOVER`, `SHADOW`, `STEEP`; `NOT_JUDGED` where the DEM has no height. A
            row's values do not depend on how rows are grouped into calls.
        """
        rows, cols = self.halo
        tiles = []
        for left in range(0, dem.grid.width, _TILE):
            width = min(_TILE, dem.grid.width - left)
            window = Window(row - rows, left - cols, height + 2 * rows, width + 2 * cols)
            tiles.append(self.bits(dem.read(window)[0]))
        return np.concatenate(tiles, axis=1)

    def bits(self, block: HeightArray) -> BitArray:
        """Return the bits of the inner part of a block of heights that reaches `halo` beyond it on every side."""
        rows, cols = self.halo
        inner = (slice(rows, len(block) - rows), slice(cols, block.shape[1] - cols))
        known = np.isfinite(block)
        result = np.zeros((len(block) - 2 * rows, block.shape[1] - 2 * cols), dtype=np.uint8)
        if not known[inner].any():
            result[:] = NOT_JUDGED
            return result
        near = block[rows - 1 : len(block) - rows + 1, cols - 1 : block.shape[1] - cols + 1]
        result[_slope_squared(near, self._pixel_m) > math.tan(math.radians(self.steep_deg)) ** 2] = STEEP
        for look in self._looks:
            for bit, hidden in self._hidden(look, block, known).items():
                result[hidden[inner]] |= bit
        result[~known[inner]] = NOT_JUDGED
        return result

    def _hidden(
        self, look: _Look, block: HeightArray, known: npt.NDArray[np.bool_]
    ) -> dict[int, npt.NDArray[np.bool_]]:
        heights, seen = look.turn(block), look.turn(known)
        along = (np.arange(heights.shape[1], dtype=np.float32) * np.float32(look.step_m))[None]
        slope = math.tan(math.radians(self.incidence_deg))
        # Slant range falls with rank: ground of equal rank is imaged at one place.
        rank = heights - along * np.float32(slope)
        layover = _search(np.where(seen, rank, -np.inf), look, ahead=True) >= rank
        layover |= -_search(np.where(seen, -rank, -np.inf), look, ahead=False) <= rank
        ray = heights + along * np.float32(1 / slope)
        shadow = _search(np.where(seen, ray, -np.inf), look, ahead=False) > ray
        return {
            LAYOVER: look.turn_back(layover),
            SHADOW: look.turn_back(shadow),
        }


def _frame(grid: Grid) -> tuple[float, npt.NDArray[np.float64]]:
    """Latitude of the centre, and metres (east, north) of one column and one row there: [2, 2], columns first."""
    row, col = grid.height / 2, grid.width / 2
    lon, lat = grid.lonlat(np.array([row, row, row - 0.5, row + 0.5]), np.array([col - 0.5, col + 0.5, col, col]))
    latitude = float(lat.mean())
    east = (np.diff(lon)[[0, 2]] + 180) % 360 - 180
    steps = np.stack([east * math.cos(math.radians(latitude)), np.diff(lat)[[0, 2]]])
    # Only directions are taken from longitude and latitude; lengths are those of the grid.
    return latitude, steps / np.hypot(*steps) * np.array(grid.pixel_size_m())


def _look(azimuth_deg: float, frame: npt.NDArray[np.float64]) -> _Look:
    azimuth = math.radians(azimuth_deg)
    col, row = np.linalg.solve(frame, np.array([math.sin(azimuth), math.cos(azimuth)])).tolist()
    transposed = abs(row) > abs(col)
    along, across = (row, col) if transposed else (col, row)
    return _Look(transposed, along < 0, across / abs(along), 1 / abs(along))


def _search(values: HeightArray, look: _Look, *, ahead: bool) -> HeightArray:
    """Largest value on the way from each pixel away from the sensor (or towards it), the pixel itself left out."""
    side = 1 if ahead else -1
    best = _shifted(values, side * round(look.drift), side)
    for row, col in look.offsets:
        best = np.maximum(best, _shifted(best, side * row, side * col))
    return best


def _shifted(values: HeightArray, row: int, col: int) -> HeightArray:
    """Value found `row`, `col` further on; minus infinity beyond the block."""
    result = np.full_like(values, -np.inf)
    height, width = values.shape
    if abs(row) < height and abs(col) < width:
        to_row, to_col = slice(max(0, -row), height - max(0, row)), slice(max(0, -col), width - max(0, col))
        from_row, from_col = slice(max(0, row), height - max(0, -row)), slice(max(0, col), width - max(0, -col))
        result[to_row, to_col] = values[from_row, from_col]
    return result


def _slope_squared(block: HeightArray, pixel_m: tuple[float, float]) -> HeightArray:
    """Squared slope inside a block one pixel larger, from central differences (one-sided beside a gap)."""
    centre = block[1:-1, 1:-1]
    total = np.zeros_like(centre)
    for before, after, size in (
        (block[1:-1, :-2], block[1:-1, 2:], pixel_m[0]),
        (block[:-2, 1:-1], block[2:, 1:-1], pixel_m[1]),
    ):
        gap_before, gap_after = np.isnan(before), np.isnan(after)
        rise = np.where(gap_after, centre, after) - np.where(gap_before, centre, before)
        run = (2 - gap_before.astype(np.float32) - gap_after) * np.float32(size)
        total += np.square(rise / np.maximum(run, np.float32(size)))
    return total
