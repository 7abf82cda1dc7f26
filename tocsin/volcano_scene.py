"""What a volcano scoring reads, opened and checked before any work: the scene, and the scales it is looked at.

The model was trained over a range of pixel sizes (manifest, 80 to 350 m). Finer interferograms are brought to the whole
multiple of their pixels that is closest to 100 m; within the range they run as they are; coarser ones run as they are,
with a warning, since finer pixels would invent fringes. Where three of these pixels still lie within the range and the
scene is larger than a chip, it is also looked at with pixels three times as large, for deformation wider than a chip.
"""

import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tocsin.errors import NoGeoreferenceError, UsageError, WrongDatesError
from tocsin.grid import Grid, Window
from tocsin.hazards.volcano import GSD_M, VolcanoInputs
from tocsin.manifest import Manifest
from tocsin.raster import (
    Coherent,
    Incoherent,
    Interferogram,
    Multilooked,
    Picture,
    Source,
    is_picture,
    open_coherence,
    open_interferogram,
    open_picture,
)
from tocsin.result import ResultWarning
from tocsin.scene_files import InputSource, VectorFile, open_area

THIRD: Final = 3
"""Pixels along one of the coarser scale."""
ZEROS_SHARE: Final = 0.05
"""From so many exact zeros on a reader is told that they were taken as phase."""
# Pixels of "80 m" that a geographic grid makes a little smaller run as they are.
SIZE_SLACK: Final = 0.02


@dataclass(frozen=True, slots=True)
class Scale:
    """The scene at one pixel size.

    Attributes
    ----------
    factor : int
        1, or 3 for a third of the resolution.
    looks : tuple of int
        Pixels of the scene along rows and columns of a pixel.
    source : Source
        Wrapped phase, rad, one band, NaN where missing or not coherent.
    aoi : Source or None
        The area of interest on the same grid.
    """

    factor: int
    looks: tuple[int, int]
    source: Source
    aoi: Source | None

    @property
    def grid(self) -> Grid:
        """Where the pixels lie."""
        return self.source.grid

    def to_scene(self, window: Window) -> Window:
        """Return a window of this scale in pixels of the scene."""
        rows, cols = self.looks
        return Window(window.row * rows, window.col * cols, window.height * rows, window.width * cols)


@dataclass(frozen=True, slots=True, kw_only=True)
class VolcanoScene:
    """Open sources of one volcano scoring.

    Attributes
    ----------
    id : str
        Product names start with it.
    phase : Source
        Wrapped phase on the scene's own grid, rad, NaN where missing or not coherent.
    grid : Grid
        The scene's own; without a CRS for a picture.
    scales : tuple of Scale
        What the model sees: its own pixel size first, then perhaps three times that.
    unobservable, aoi : Source or None
        One band each on the scene's own grid: 1 where coherence is too low; above 0 in the area of interest.
    files : tuple of InputSource
        Every file that is read, for provenance.
    acquired, reference_acquired : datetime.datetime or None
        UTC of the later and the earlier acquisition; None when unknown.
    warnings : tuple of ResultWarning
        What a reader of the products must know.
    """

    id: str
    phase: Source
    grid: Grid
    scales: tuple[Scale, ...]
    unobservable: Source | None
    aoi: Source | None
    files: tuple[InputSource, ...]
    acquired: datetime | None
    reference_acquired: datetime | None
    warnings: tuple[ResultWarning, ...]

    @property
    def model_grid(self) -> Grid:
        """The grid of the finest scale."""
        return self.scales[0].grid

    @property
    def resampled(self) -> bool:
        """Whether the model never sees the scene's own pixels."""
        return self.scales[0].looks != (1, 1)

    @property
    def resampling(self) -> str:
        """How phase was brought to the model's pixels, and the result back."""
        return "phase as means of unit vectors, probability back bilinear"

    @property
    def georeferenced(self) -> bool:
        """Whether the scene's place on Earth is known: not for a picture."""
        return bool(self.grid.crs)

    @property
    def scales_m(self) -> tuple[tuple[float, float], ...] | None:
        """Pixel sizes (x, y) of the scales, m; None when unknown."""
        return tuple(scale.grid.pixel_size_m() for scale in self.scales) if self.georeferenced else None


def open_volcano_scene(
    stack: ExitStack,
    inputs: VolcanoInputs,
    manifest: Manifest,
    *,
    aoi: Path | None = None,
    when: datetime | None = None,
) -> VolcanoScene:
    """Open everything that `inputs` names; what is opened is closed with `stack`.

    Parameters
    ----------
    stack
        Owner of the open files.
    inputs
        Names of the inputs.
    manifest
        The model: chip, and pixel sizes that it takes as they are.
    aoi
        Polygons to which the result is limited.
    when
        Time of the later acquisition, for files that do not say.

    Raises
    ------
    TocsinError
        Its children for bad input: hostile, of the wrong kind, on another grid, or in the wrong order of time.
    """
    source = _open(inputs, aoi)
    stack.enter_context(source)
    files: list[InputSource] = [source.file]
    phase: Source = source
    unobservable = None
    if inputs.coherence is not None and isinstance(source, Interferogram):
        coherence = stack.enter_context(open_coherence(inputs.coherence, source))
        files.append(coherence.raster)
        phase = Coherent(source, coherence, inputs.min_coherence)
        unobservable = Incoherent(source, coherence, inputs.min_coherence)
    if aoi is not None:
        files.append(VectorFile(str(aoi)))
    acquired, reference, warnings = _times(source, when)
    scales = tuple(_scales(stack, phase, manifest, aoi))
    return VolcanoScene(
        id=source.scene_id,
        phase=phase,
        grid=source.grid,
        scales=scales,
        unobservable=unobservable,
        aoi=None if aoi is None else open_area(stack, aoi, source.grid),
        files=tuple(files),
        acquired=acquired,
        reference_acquired=reference,
        warnings=(*warnings, *_about(source, scales[0].grid, manifest)),
    )


def looks_of(size_m: float, gsd_m: tuple[float, float]) -> int:
    """Return how many pixels of a size make one that the model takes: 1 unless they are too fine.

    Parameters
    ----------
    size_m
        Along one axis, m.
    gsd_m
        Smallest and largest pixel size that the model takes as it is, m.
    """
    least = gsd_m[0] * (1 - SIZE_SLACK)
    return 1 if size_m >= least else max(math.ceil(least / size_m), round(GSD_M / size_m))


def _open(inputs: VolcanoInputs, aoi: Path | None) -> Interferogram | Picture:
    href = inputs.interferogram
    if not is_picture(href):
        return open_interferogram(href, inputs.phase, inputs.units)
    if inputs.phase == "unwrapped" or inputs.units == "m":
        raise UsageError(
            f"{href}, a picture, as unwrapped phase", "a raster", "pass the GeoTIFF instead of its picture"
        )
    if inputs.coherence is not None or aoi is not None:
        raise NoGeoreferenceError(
            f"{href}, a picture, with {'an area of interest' if inputs.coherence is None else 'coherence'}",
            "a georeferenced interferogram",
            "pass the GeoTIFF instead of its picture",
        )
    return open_picture(href)


def _scales(stack: ExitStack, phase: Source, manifest: Manifest, aoi: Path | None) -> Iterator[Scale]:
    """Yield what the model sees; of a picture, whose pixel size is unknown, the pixels as they are."""
    if not phase.grid.crs:
        yield Scale(1, (1, 1), phase, None)
        return
    size_x, size_y = phase.grid.pixel_size_m()
    looks = looks_of(size_y, manifest.gsd_m), looks_of(size_x, manifest.gsd_m)
    source = phase if looks == (1, 1) else Multilooked(phase, looks)
    yield Scale(1, looks, source, None if aoi is None else open_area(stack, aoi, source.grid))
    larger = max(source.grid.shape) > manifest.chip_px
    if larger and THIRD * max(source.grid.pixel_size_m()) <= manifest.gsd_m[1]:
        # From the scene's own pixels, so that each counts alike however many were missing beside it.
        looks = THIRD * looks[0], THIRD * looks[1]
        source = Multilooked(phase, looks)
        yield Scale(THIRD, looks, source, None if aoi is None else open_area(stack, aoi, source.grid))


def _times(
    source: Interferogram | Picture, when: datetime | None
) -> tuple[datetime | None, datetime | None, tuple[ResultWarning, ...]]:
    """Find times of the later and the earlier acquisition, and what is not known; never invented."""
    pair = source.acquired
    acquired = when.astimezone(UTC) if when is not None else pair.secondary
    if acquired is not None and pair.reference is not None and pair.reference >= acquired:
        raise WrongDatesError(
            f"acquisitions of {pair.reference.isoformat()} and {acquired.isoformat()}",
            "the later of the two as --datetime",
            "correct --datetime",
        )
    found = {}
    if acquired is None:
        found["acquired_unknown"] = "acquisition times are in no tag or file name; pass the later one as --datetime"
    elif pair.reference is None:
        found["reference_acquired_unknown"] = "time of the earlier acquisition is in no tag or file name"
    elif pair.day_only:
        found["acquired_day_only"] = "file name and tags give days of acquisition only: 00:00 UTC stands for each"
    return acquired, pair.reference, _warnings(found)


def _about(source: Interferogram | Picture, model_grid: Grid, manifest: Manifest) -> tuple[ResultWarning, ...]:
    """Say what was taken for granted about the file."""
    found = {}
    if isinstance(source, Interferogram) and source.zeros > 0 and source.zero_is_missing:
        found["undeclared_nodata"] = "0 is not declared as nodata; by the file's LiCSAR name it was taken as missing"
    elif isinstance(source, Interferogram) and source.zeros > ZEROS_SHARE:
        found["zero_phase"] = (
            f"{source.zeros:.0%} of a sample is exactly 0 and was taken as phase; if 0 means missing, declare it "
            "(gdal_edit -a_nodata 0)"
        )
    low, high = manifest.gsd_m
    if not model_grid.crs:
        found["no_georeference"] = (
            "a picture has no place on Earth: no polygons, item or areas; its pixels were assumed to be of the size "
            f"that the model was trained on, {low:g} to {high:g} m"
        )
    elif max(model_grid.pixel_size_m()) > high * (1 + SIZE_SLACK):
        size_x, size_y = model_grid.pixel_size_m()
        found["pixel_size_untrained"] = (
            f"pixels of {size_x:.4g} x {size_y:.4g} m are larger than the {low:g} to {high:g} m that the model was "
            "trained on: it was run on them as they are"
        )
    return _warnings(found)


def _warnings(found: dict[str, str]) -> tuple[ResultWarning, ...]:
    return tuple(ResultWarning(code=code, message=message) for code, message in found.items())
