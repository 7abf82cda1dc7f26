"""What a flood scoring reads, opened and checked before any work: one grid to report on, one to run the model on."""

from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tocsin.errors import WrongDatesError
from tocsin.grid import Grid
from tocsin.hazards.flood import GSD_M, FloodInputs
from tocsin.manifest import Manifest
from tocsin.orbits import OrbitPass, incidence_deg_of, orbit_pass_of
from tocsin.raster import Backscatter, Source, align, open_backscatter
from tocsin.result import ResultWarning
from tocsin.scene_files import InputSource, VectorFile, model_grid_of, open_aligned, open_area, open_exclusion


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
    orbit_pass: OrbitPass | None
    incidence_deg: float | None
    warnings: tuple[ResultWarning, ...]

    @property
    def resampled(self) -> bool:
        """Whether the model runs on another grid than the scene's own."""
        return self.model_grid != self.grid

    @property
    def resampling(self) -> str:
        """How what is read was brought to the model's pixels, and the result back."""
        return "backscatter in linear power, probability back; means where pixels grow"

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
    model_grid = model_grid_of(grid, manifest.gsd_m, GSD_M)
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
        reference_water=open_aligned(stack, inputs.reference_water, grid, "nearest", files),
        dem=open_aligned(stack, inputs.dem, grid, "bilinear", files),
        exclude=open_exclusion(stack, inputs.exclude, grid, files),
        aoi=area,
        aoi_model=area if model_grid == grid or aoi is None else open_area(stack, aoi, model_grid),
        files=tuple(files),
        acquired=acquired,
        pre_acquired=pre_acquired,
        orbit_pass=inputs.orbit_pass or orbit_pass_of(post),
        incidence_deg=inputs.incidence_deg if inputs.incidence_deg is not None else incidence_deg_of(post),
        warnings=warnings,
    )


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
