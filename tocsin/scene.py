"""What a flood scoring reads, opened and checked before any work: one grid to report on, one to run the model on."""

from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from tocsin.errors import TooLargeError, WrongBandsError, WrongDatesError
from tocsin.grid import Grid
from tocsin.hazards.flood import GSD_M, FloodInputs
from tocsin.manifest import Manifest
from tocsin.raster import Backscatter, Limits, Method, Source, align, open_backscatter, open_raster, rasterise
from tocsin.result import ResultWarning
from tocsin.scene_files import InputSource, VectorFile, open_area

VECTORS = frozenset({".geojson", ".json", ".gpkg", ".shp", ".fgb"})
"""File names that hold polygons; anything else is opened as a raster."""
ORBIT_TAGS = ("orbit_pass_direction", "orbit_pass", "orbit_direction", "pass_direction", "flight_direction")
INCIDENCE_TAGS = ("incidence_deg", "incidence_angle_deg", "incidence_angle_mid_swath", "incidence_angle")
MIN_INCIDENCE_DEG = 15.0
MAX_INCIDENCE_DEG = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FloodScene:
    """Open sources of one flood scoring.

    Attributes
    ----------
    id : str
        Product names start with it.
    post : Backscatter
        The scene on its own grid, VV and VH in dB.
    grid, model_grid : Grid
        The scene's own grid, and the one that the model runs on: the same unless the scene is resampled.
    acquisitions : tuple of Source
        Post-event, then pre-event if given, both on the model's grid.
    reference_water, dem, exclude, aoi : Source or None
        One band each on the scene's own grid.
    aoi_model : Source or None
        The area of interest on the model's grid.
    files : tuple of InputSource
        Every file that is read, for provenance.
    acquired, pre_acquired : datetime.datetime or None
        UTC; None when unknown.
    orbit_pass, incidence_deg
        As given or found in tags; None when unknown.
    warnings : tuple of ResultWarning
        What a reader of the products must know.
    """

    id: str
    post: Backscatter
    grid: Grid
    model_grid: Grid
    acquisitions: tuple[Source, ...]
    reference_water: Source | None
    dem: Source | None
    exclude: Source | None
    aoi: Source | None
    aoi_model: Source | None
    files: tuple[InputSource, ...]
    acquired: datetime | None
    pre_acquired: datetime | None
    orbit_pass: Literal["ascending", "descending"] | None
    incidence_deg: float | None
    warnings: tuple[ResultWarning, ...]

    @property
    def resampled(self) -> bool:
        """Whether the model runs on another grid than the scene's own."""
        return self.model_grid != self.grid

    @property
    def scales_m(self) -> None:
        """Pixel sizes at which the model ran: there is one, and `resampled` says it."""
        return


def open_flood_scene(
    stack: ExitStack, inputs: FloodInputs, manifest: Manifest, *, aoi: Path | None = None, when: datetime | None = None
) -> FloodScene:
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
        Acquisition time of the post-event scene, for files that do not say.

    Raises
    ------
    TocsinError
        Its children for bad input: hostile, of the wrong kind, elsewhere, or in the wrong order of time.
    """
    post = stack.enter_context(open_backscatter(inputs.post, inputs.units))
    grid = post.grid
    files: list[InputSource] = [*post.files]
    model_grid = _model_grid(grid, manifest)
    acquisitions: list[Source] = [post if model_grid == grid else align(post, model_grid, "power")]
    pre_acquired = None
    if inputs.pre is not None:
        pre = stack.enter_context(open_backscatter(inputs.pre, inputs.units))
        files.extend(pre.files)
        pre_acquired = pre.acquired.start if pre.acquired else None
        acquisitions.append(pre if pre.grid == model_grid else align(pre, model_grid, "power"))
    acquired, warnings = _times(post, pre_acquired, when, has_pre=inputs.pre is not None)
    area = None if aoi is None else open_area(stack, aoi, grid)
    if aoi is not None:
        files.append(VectorFile(str(aoi)))
    return FloodScene(
        id=post.scene_id,
        post=post,
        grid=grid,
        model_grid=model_grid,
        acquisitions=tuple(acquisitions),
        reference_water=_aligned(stack, inputs.reference_water, grid, "nearest", files),
        dem=_aligned(stack, inputs.dem, grid, "bilinear", files),
        exclude=_exclude(stack, inputs.exclude, grid, files),
        aoi=area,
        aoi_model=area if model_grid == grid or aoi is None else open_area(stack, aoi, model_grid),
        files=tuple(files),
        acquired=acquired,
        pre_acquired=pre_acquired,
        orbit_pass=inputs.orbit_pass or _orbit_pass(post),
        incidence_deg=inputs.incidence_deg if inputs.incidence_deg is not None else _incidence_deg(post),
        warnings=warnings,
    )


def _model_grid(grid: Grid, manifest: Manifest) -> Grid:
    """Return the scene's own grid when the model takes its pixels as they are, else one of the model's pixel size."""
    low, high = manifest.gsd_m
    if all(low <= size <= high for size in grid.pixel_size_m()):
        return grid
    resampled = grid.resampled(GSD_M)
    limit = Limits().max_pixels
    if resampled.height * resampled.width > limit:
        size_x, size_y = grid.pixel_size_m()
        raise TooLargeError(
            f"a scene of {grid.height} x {grid.width} px of {size_x:.4g} x {size_y:.4g} m, which is "
            f"{resampled.height} x {resampled.width} px at {GSD_M:g} m",
            f"at most {limit} px at the model's pixel size",
            "cut the scene into parts",
        )
    return resampled


def _times(
    post: Backscatter, pre_acquired: datetime | None, when: datetime | None, *, has_pre: bool
) -> tuple[datetime | None, tuple[ResultWarning, ...]]:
    """Acquisition time of the scene, and what is not known; never invented."""
    acquired = when.astimezone(UTC) if when is not None else post.acquired.start if post.acquired else None
    warnings = []
    if acquired is None:
        message = "acquisition time of the scene is in no tag or file name; pass --datetime"
        warnings.append(ResultWarning(code="acquired_unknown", message=message))
    if has_pre and pre_acquired is None:
        message = (
            "acquisition time of the pre-event scene is in no tag or file name: the order of the two is not checked"
        )
        warnings.append(ResultWarning(code="pre_acquired_unknown", message=message))
    if acquired is not None and pre_acquired is not None and pre_acquired >= acquired:
        raise WrongDatesError(
            f"a pre-event scene of {pre_acquired.isoformat()} and a post-event scene of {acquired.isoformat()}",
            "the pre-event scene first",
            "exchange the two, or correct --datetime",
        )
    return acquired, tuple(warnings)


def _aligned(stack: ExitStack, href: str | None, grid: Grid, method: Method, files: list[InputSource]) -> Source | None:
    if href is None:
        return None
    raster = stack.enter_context(open_raster(href))
    files.append(raster)
    if raster.count != 1:
        raise WrongBandsError(f"{href} with {raster.count} bands", "one band", "extract the band that is meant")
    return align(raster, grid, method)


def _exclude(stack: ExitStack, href: str | None, grid: Grid, files: list[InputSource]) -> Source | None:
    """Open a raster or polygons of what is excluded; which of both is found out by opening."""
    if href is not None and Path(href).suffix.lower() in VECTORS:
        files.append(VectorFile(href))
        return stack.enter_context(rasterise(href, grid))
    return _aligned(stack, href, grid, "nearest", files)


def _tag(post: Backscatter, names: tuple[str, ...]) -> str | None:
    for raster in post.files:
        tags = {name.lower(): value for name, value in raster.tags.items()}
        for name in names:
            if name in tags:
                return tags[name].strip()
    return None


def _orbit_pass(post: Backscatter) -> Literal["ascending", "descending"] | None:
    said = (_tag(post, ORBIT_TAGS) or "").lower()
    if said in {"ascending", "a", "asc"}:
        return "ascending"
    return "descending" if said in {"descending", "d", "desc"} else None


def _incidence_deg(post: Backscatter) -> float | None:
    try:
        degrees = float(_tag(post, INCIDENCE_TAGS) or "nan")
    except ValueError:
        return None
    return degrees if MIN_INCIDENCE_DEG <= degrees <= MAX_INCIDENCE_DEG else None
