"""What a landslide scoring reads, opened and checked before any work: one to three acquisitions on each side.

The first post-event acquisition is the scene: the pixel mask is reported on its grid, where a value was seen on both
sides of the event and nowhere else. The model runs on pixels of about
10 m, to which all acquisitions are resampled in linear power and the heights bilinearly. Where there are fewer than
three acquisitions on a side, or one does not reach, the model sees NaN: none is ever repeated to fill a place.
"""

from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tocsin.errors import WrongBandsError, WrongDatesError
from tocsin.grid import Grid, Window
from tocsin.hazards.landslide import ACQUISITIONS, BANDS, GSD_M, LandslideInputs, cell_grid
from tocsin.heights import check_heights
from tocsin.manifest import Manifest
from tocsin.orbits import OrbitPass, differing, incidence_deg_of, look_of
from tocsin.raster import Backscatter, Source, align, open_backscatter, open_raster
from tocsin.raster.source import ClosingSource
from tocsin.result import ResultWarning
from tocsin.scene_files import InputSource, VectorFile, model_grid_of, open_area, open_exclusion

FloatArray = npt.NDArray[np.float32]

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class LandslideArrays:
    """What the model reads of one window.

    Attributes
    ----------
    pre, post : numpy.ndarray
        float32 [3, 2, height, width]: VV, VH, dB, of up to three acquisitions; NaN where missing or absent.
    dem : numpy.ndarray
        float32 [1, height, width]: terrain height, m; NaN where missing or absent.
    """

    pre: FloatArray
    post: FloatArray
    dem: FloatArray


class BothSides(ClosingSource):
    """A source of one band: 0 where any acquisition has a value before and any after, in either band; else NaN.

    Parameters
    ----------
    grid
        Where the pixels lie.
    pre, post
        Acquisitions on that grid.
    """

    def __init__(self, grid: Grid, pre: tuple[Source, ...], post: tuple[Source, ...]) -> None:
        self.grid = grid
        self._sides = (pre, post)

    def read(self, window: Window) -> FloatArray:
        """Return a window, float32 [1, height, width]."""
        both = np.ones(window.shape, dtype=np.bool_)
        for side in self._sides:
            seen = np.zeros(window.shape, dtype=np.bool_)
            for source in side:
                seen |= np.isfinite(source.read(window)).any(axis=0)
            both &= seen
        return np.where(both, np.float32(0), np.float32(np.nan))[None]


@dataclass(frozen=True, slots=True, kw_only=True)
class LandslideScene:
    """Open sources of one landslide scoring.

    Attributes
    ----------
    id : str
        Product names start with it.
    scene : Backscatter
        The first post-event acquisition on its own grid, VV and VH in dB.
    grid, model_grid : Grid
        The scene's own grid, and the one that the model runs on: the same unless the scene is resampled.
    pre, post : tuple of Source
        One to three acquisitions each on the model's grid, VV and VH in dB, in the order given.
    dem : Source or None
        Terrain height, m, on the model's grid.
    heights, exclude, aoi : Source or None
        One band each on the scene's own grid: terrain height, m; above 0 what is excluded; above 0 what is wanted.
    both : Source
        One band on the scene's own grid: 0 where there is a value on both sides of the event, else NaN.
    aoi_model : Source or None
        The area of interest on the model's grid.
    files : tuple of InputSource
        Every file that is read, for provenance.
    pre_acquired, post_acquired : tuple of (datetime.datetime or None)
        UTC in the order given; None where unknown.
    orbit_pass, incidence_deg
        Direction of flight, and incidence at the centre, as given or found in the scene's tags; None when unknown.
    warnings : tuple of ResultWarning
        What a reader of the products must know.
    """

    id: str
    scene: Backscatter
    grid: Grid
    model_grid: Grid
    pre: tuple[Source, ...]
    post: tuple[Source, ...]
    dem: Source | None
    heights: Source | None
    both: Source
    exclude: Source | None
    aoi: Source | None
    aoi_model: Source | None
    files: tuple[InputSource, ...]
    pre_acquired: tuple[datetime | None, ...]
    post_acquired: tuple[datetime | None, ...]
    orbit_pass: OrbitPass | None
    incidence_deg: float | None
    warnings: tuple[ResultWarning, ...]

    @property
    def acquired(self) -> datetime | None:
        """UTC time of the scene, None when unknown."""
        return self.post_acquired[0]

    @property
    def cells(self) -> Grid:
        """The grid of the class, probability and density: cells of 64 x 64 px of the model's grid."""
        return cell_grid(self.model_grid)

    @property
    def resampled(self) -> bool:
        """Whether the model runs on another grid than the scene's own."""
        return self.model_grid != self.grid

    @property
    def resampling(self) -> str:
        """How what is read was brought to the model's pixels, and the mask back."""
        return "backscatter in linear power, heights bilinear, mask back as probability; means where pixels grow"

    @property
    def scales_m(self) -> None:
        """Pixel sizes at which the model ran: there is one, and `resampled` says it."""
        return

    @property
    def days_between(self) -> float | None:
        """Days from the last acquisition before to the first one after, between which it happened; None if unknown."""
        pre, post = known(self.pre_acquired), known(self.post_acquired)
        if len(pre) < len(self.pre_acquired) or len(post) < len(self.post_acquired):
            return None
        return (min(post) - max(pre)) / DAY

    def read(self, window: Window) -> LandslideArrays:
        """Return what the model reads of a window of its grid; the window may reach outside the scene."""
        dem = np.full((1, *window.shape), np.nan, dtype=np.float32) if self.dem is None else self.dem.read(window)
        return LandslideArrays(_stacked(self.pre, window), _stacked(self.post, window), dem)


def open_landslide_scene(
    stack: ExitStack,
    inputs: LandslideInputs,
    manifest: Manifest,
    *,
    aoi: Path | None = None,
    when: datetime | None = None,
) -> LandslideScene:
    """Open everything that `inputs` names; what is opened is closed with `stack`.

    Parameters
    ----------
    stack
        Owner of the open files.
    inputs
        Names of the inputs.
    manifest
        The model: pixel sizes that it takes as they are.
    aoi
        Polygons to which the result is limited.
    when
        Acquisition time of the first post-event acquisition, for files that do not say.

    Raises
    ------
    TocsinError
        Its children for bad input: hostile, of the wrong kind, elsewhere, or in the wrong order of time.
    """
    post, pre = (
        [stack.enter_context(open_backscatter(href, inputs.units, one_band=True)) for href in side]
        for side in (inputs.post, inputs.pre)
    )
    grid = post[0].grid
    files: list[InputSource] = [file for each in (*post, *pre) for file in each.files]
    pre_acquired, post_acquired, said = _times(pre, post, when)
    said |= _missing(pre, post) | _looks(pre, post)
    model_grid = model_grid_of(grid, manifest.gsd_m, GSD_M)
    dem, heights, of_dem = _open_dem(stack, inputs.dem, (model_grid, grid), files)
    area = None if aoi is None else open_area(stack, aoi, grid)
    if aoi is not None:
        files.append(VectorFile(str(aoi)))
    return LandslideScene(
        id=post[0].scene_id,
        scene=post[0],
        grid=grid,
        model_grid=model_grid,
        pre=tuple(_on(each, model_grid) for each in pre),
        post=tuple(_on(each, model_grid) for each in post),
        dem=dem,
        heights=heights,
        both=BothSides(grid, tuple(_on(each, grid) for each in pre), tuple(_on(each, grid) for each in post)),
        exclude=open_exclusion(stack, inputs.exclude, grid, files),
        aoi=area,
        aoi_model=area if model_grid == grid or aoi is None else open_area(stack, aoi, model_grid),
        files=tuple(files),
        pre_acquired=pre_acquired,
        post_acquired=post_acquired,
        orbit_pass=inputs.orbit_pass or look_of(post[0]).orbit_pass,
        incidence_deg=inputs.incidence_deg if inputs.incidence_deg is not None else incidence_deg_of(post[0]),
        warnings=tuple(ResultWarning(code=code, message=text) for code, text in (said | of_dem).items()),
    )


def known(times: Iterable[datetime | None]) -> tuple[datetime, ...]:
    """Return the times that are known, in their order."""
    return tuple(time for time in times if time is not None)


def _on(source: Source, grid: Grid) -> Source:
    return source if source.grid == grid else align(source, grid, "power")


def _stacked(acquisitions: tuple[Source, ...], window: Window) -> FloatArray:
    out = np.full((ACQUISITIONS, len(BANDS), *window.shape), np.nan, dtype=np.float32)
    for index, source in enumerate(acquisitions):
        out[index] = source.read(window)
    return out


def _times(
    pre: list[Backscatter], post: list[Backscatter], when: datetime | None
) -> tuple[tuple[datetime | None, ...], tuple[datetime | None, ...], dict[str, str]]:
    """Find the times of all acquisitions, and what is not known of them; never invented."""
    before = tuple(each.acquired.start if each.acquired else None for each in pre)
    after = tuple(each.acquired.start if each.acquired else None for each in post)
    if when is not None:
        after = (when.astimezone(UTC), *after[1:])
    if known(before) and known(after) and max(known(before)) >= min(known(after)):
        raise WrongDatesError(
            f"a pre-event acquisition of {max(known(before)).isoformat()} and a post-event one of "
            f"{min(known(after)).isoformat()}",
            "every pre-event acquisition before every post-event one",
            "exchange the two sides, or correct --datetime",
        )
    said = {}
    if after[0] is None:
        said["acquired_unknown"] = (
            "acquisition time of the first post-event scene is in no tag or file name; pass --datetime"
        )
    unknown = [each.href for each, time in zip((*pre, *post[1:]), (*before, *after[1:]), strict=True) if time is None]
    if unknown:
        said["other_acquired_unknown"] = (
            f"acquisition times are in no tag or file name of {', '.join(unknown)}: their order was taken as given"
        )
    return before, after, said


def _missing(pre: list[Backscatter], post: list[Backscatter]) -> dict[str, str]:
    """Say which polarisations are missing where; a change needs the same one on both sides.

    Raises
    ------
    WrongBandsError
        No polarisation is on both sides.
    """
    before, after = ({name for each in side for name in BANDS if name not in each.missing} for side in (pre, post))
    if not before & after:
        raise WrongBandsError(
            f"{', '.join(sorted(before))} before and {', '.join(sorted(after))} after",
            "a polarisation that is on both sides",
            "pass acquisitions of the same polarisations",
        )
    lacking = Counter(name for each in (*pre, *post) for name in each.missing)
    if not lacking:
        return {}
    said = " and ".join(f"{name} is missing in {lacking[name]}" for name in BANDS if lacking[name])
    return {"band_missing": f"{said} of {len(pre) + len(post)} acquisitions: judged by what there is, and less certain"}


def _looks(pre: list[Backscatter], post: list[Backscatter]) -> dict[str, str]:
    """Say which acquisitions look from elsewhere or lie on another grid than the scene."""
    every = [*post, *pre]
    said = {}
    other = [every[index].href for index in differing([look_of(each) for each in every])]
    if other:
        said["orbit_differs"] = (
            f"pass or track differs from that of {every[0].href} in {', '.join(other)}: slopes look different without "
            "any landslide; pass acquisitions of one track"
        )
    for side in (post, pre):
        taken = [(each.acquired.start, each.grid) if each.acquired else None for each in side]
        twice = [each.href for index, each in enumerate(side) if taken[index] and taken[index] in taken[:index]]
        if twice:
            said["acquired_twice"] = f"{', '.join(twice)}: the same time as another on its side, and no second look"
    moved = [each.href for each in every if each.grid != every[0].grid]
    if moved:
        said["grid_differs"] = f"resampled onto the grid of {every[0].href} in linear power: {', '.join(moved)}"
    return said


def _open_dem(
    stack: ExitStack, href: str | None, grids: tuple[Grid, Grid], files: list[InputSource]
) -> tuple[Source | None, Source | None, dict[str, str]]:
    """Open terrain heights on the model's and the scene's grid; what is void or not covered stays NaN, and is said."""
    if href is None:
        return None, None, {}
    raster = stack.enter_context(open_raster(href))
    if raster.count != 1:
        raise WrongBandsError(f"{href} with {raster.count} bands", "one band of heights", "extract the band")
    has_heights = check_heights(raster)
    files.append(raster)
    dem, heights = (align(raster, grid, "bilinear") for grid in grids)
    share = _reach(dem, grids[0])
    said = {}
    if share == 0 and not has_heights:
        said["dem_void"] = f"{href} holds no height where it was looked at: the model ran without terrain"
    elif share < 1:
        said["dem_partial"] = (
            f"{href} has no height in about {1 - share:.0%} of the scene: there the model ran without it"
        )
    return dem, heights, said


def _reach(dem: Source, grid: Grid) -> float:
    """Share of a lattice over the scene where there is a height, 0-1; the outermost pixels aside."""
    rows, cols = (np.unique(np.linspace(1, max(1, size - 2), 9).astype(int)) for size in grid.shape)
    found = [np.isfinite(dem.read(Window(int(row), int(col), 1, 1))).all() for row in rows for col in cols]
    return float(np.mean(found))
