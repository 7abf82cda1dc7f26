"""What a scoring of any hazard is made of: its options, its windows, what it will need, and what its result states."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from pydantic import AwareDatetime, Field

import tocsin
from tocsin.chips import ChipPlan, plan
from tocsin.errors import UsageError
from tocsin.grid import Grid
from tocsin.inference import BRIDGED_PX, PIECE_PX
from tocsin.product_request import ModelFacts
from tocsin.progress import progress_bar
from tocsin.repository import Model
from tocsin.result import (
    Hazard,
    InputFile,
    ProductName,
    Provenance,
    Resampled,
    Result,
    ResultWarning,
    SceneFacts,
    ScoringPlan,
    Status,
    Summary,
)
from tocsin.runtimes import Runtime, RuntimeOptions
from tocsin.scene_files import InputSource

BASE_BYTES = 440 << 20
"""What a run holds whatever the scene, measured: libraries, session, one chip's activations, GDAL's cache."""
READING_BYTES = 24
"""Bytes a pixel while both bands are read, decoded and masked."""
WRITING_BYTES = 8
"""Bytes a pixel of the rows that the products hold: classes, probability, tiles to compress."""
OVERLAP_PART = 8
"""Windows share one part in so many of a chip, where neither user nor hazard says more."""


class ScoringOptions(RuntimeOptions):
    """Everything about a scoring that is not an input of the hazard."""

    model_repository: Path | None = Field(default=None, description="folder of models; None: environment, else shipped")
    overlap: int | None = Field(
        default=None,
        ge=0,
        description="pixels that neighbouring windows share, below a chip; None: the hazard's",
    )
    threshold: float | None = Field(
        default=None, gt=0, lt=1, description="probability from which a pixel counts; None: the model's"
    )
    aoi: Path | None = Field(default=None, description="polygons; outside them all is no data")
    datetime: AwareDatetime | None = Field(
        default=None, description="time of the (later) acquisition when its file has none"
    )
    overwrite: bool = Field(default=False, description="replace existing products")
    dry_run: bool = Field(default=False, description="plan only: nothing is written")
    quiet: bool = Field(default=False, description="no progress bar")
    gpkg: bool = Field(default=False, description="polygons also as GeoPackage")
    batch: int = Field(default=1, ge=1, le=256, description="chips a run; never changes a class raster on CPU")


class HazardScene(Protocol):
    """What the result of every hazard states about its scene."""

    @property
    def id(self) -> str:
        """File stem of the scene."""

    @property
    def grid(self) -> Grid:
        """The scene's own."""

    @property
    def model_grid(self) -> Grid:
        """The grid that the model runs on."""

    @property
    def resampled(self) -> bool:
        """Whether the two differ."""

    @property
    def resampling(self) -> str:
        """How, in words."""

    @property
    def scales_m(self) -> tuple[tuple[float, float], ...] | None:
        """Pixel sizes at which the model ran, where there are several or might be; None where `resampled` says it."""

    @property
    def files(self) -> tuple[InputSource, ...]:
        """Every file that is read."""

    @property
    def acquired(self) -> datetime | None:
        """UTC of the (later) acquisition, None when unknown."""

    @property
    def warnings(self) -> tuple[ResultWarning, ...]:
        """What is known before any work."""


class HazardOutcome(Protocol):
    """What the products of every hazard hand back."""

    @property
    def products(self) -> dict[ProductName, str]:
        """Paths of what was written."""

    @property
    def summary(self) -> Summary:
        """Figures of the hazard."""

    @property
    def valid_fraction(self) -> float:
        """Share of pixels with a result, 0-1."""

    @property
    def warnings(self) -> tuple[ResultWarning, ...]:
        """What was known before, and what was found."""


class HazardJob(Protocol):
    """One scene, one model, one set of options of one hazard: everything is open and checked."""

    def plan(self) -> Result:
        """Say what a run would do, without reading a pixel of the scene."""

    def prepare(self, stack: ExitStack) -> None:
        """Refuse products that exist, before any work."""

    def run(self, stack: ExitStack, runtime: Runtime) -> Result:
        """Score, write, and return what was written."""


@dataclass(frozen=True, slots=True)
class Order:
    """What was asked for, whatever the hazard, and how its result says so.

    Attributes
    ----------
    hazard : str
        flood, landslide or volcano.
    model : Model
        Loaded and checked.
    options : ScoringOptions
        As given.
    out : pathlib.Path
        Folder of the products.
    started : datetime.datetime
        UTC.
    on_progress : callable or None
        Told windows done and windows in all, beside the bar.
    """

    hazard: Hazard
    model: Model
    options: ScoringOptions
    out: Path
    started: datetime
    on_progress: Callable[[int, int], None] | None = None

    @property
    def threshold(self) -> float:
        """Probability from which a pixel counts."""
        return self.model.manifest.threshold if self.options.threshold is None else self.options.threshold

    def progress(self, windows: int) -> AbstractContextManager[Callable[[], None]]:
        """Show how far a run is; what the block gets is called after every window."""
        return progress_bar("windows", windows, quiet=self.options.quiet, told=self.on_progress)

    def facts(self) -> ModelFacts:
        """Return what the tags of product rasters say about the model."""
        manifest = self.model.manifest
        return ModelFacts(
            model=manifest.name,
            version=manifest.version,
            sha256=self.model.sha256,
            precision=self.options.precision,
            licence=manifest.licence,
            tocsin=tocsin.__version__,
        )

    def planned(self, scene: HazardScene, summary: ScoringPlan) -> Result:
        """Return the result of a dry run."""
        inputs = tuple(InputFile(href=file.href, sha256=None) for file in scene.files)
        return Result(
            hazard=self.hazard,
            status="ok",
            scene=_scene_facts(scene, None),
            products={},
            summary=summary,
            warnings=scene.warnings,
            provenance=self.provenance(self.options, scene, inputs),
        )

    def done(self, scene: HazardScene, outcome: HazardOutcome, provenance: Provenance, status: Status = "ok") -> Result:
        """Return the result of a run: ``empty`` without a valid pixel, else `status`."""
        return Result(
            hazard=self.hazard,
            status="empty" if outcome.valid_fraction == 0 else status,
            scene=_scene_facts(scene, outcome.valid_fraction),
            products=outcome.products,
            summary=outcome.summary,
            warnings=outcome.warnings,
            provenance=provenance,
        )

    def provenance(self, ran: Runtime | ScoringOptions, scene: HazardScene, inputs: Iterable[InputFile]) -> Provenance:
        """State what ran; in a dry run, what would."""
        manifest = self.model.manifest
        return Provenance(
            model=manifest.name,
            version=manifest.version,
            sha256=self.model.sha256,
            precision=ran.precision,
            runtime=ran.runtime if isinstance(ran, ScoringOptions) else ran.name,
            device=ran.device,
            threshold=self.threshold,
            tocsin=tocsin.__version__,
            inputs=tuple(inputs),
            resampled=Resampled(
                from_m=scene.grid.pixel_size_m(), to_m=scene.model_grid.pixel_size_m(), method=scene.resampling
            )
            if scene.resampled
            else None,
            scales_m=scene.scales_m,
            started=self.started,
            seconds=round((datetime.now(UTC) - self.started).total_seconds(), 3),
        )


def _scene_facts(scene: HazardScene, valid_fraction: float | None) -> SceneFacts:
    return SceneFacts(
        id=scene.id,
        crs=scene.grid.crs_name,
        shape=scene.grid.shape,
        bounds=scene.grid.bounds,
        valid_fraction=valid_fraction,
        acquired=scene.acquired,
    )


def plan_windows(shape: tuple[int, int], chip: int, options: ScoringOptions, part: int = OVERLAP_PART) -> ChipPlan:
    """Plan the windows of a scene; without an overlap in the options, a part of a chip.

    An eighth (64 px of 512) unless a hazard says otherwise: on simulated floods 0.60 % of the classes change against an
    overlap of 384 px when there is none, 0.25 % with 64 px and 0.19 % with 128 px, at 1.31 and 1.78 times the pixels.

    Parameters
    ----------
    shape
        Height and width of the scene, pixels.
    chip
        Side of a window, pixels.
    options
        With the overlap that was asked for.
    part
        A chip over the overlap, where none was asked for.

    Raises
    ------
    UsageError
        The overlap is as large as a chip.
    """
    overlap = chip // part if options.overlap is None else options.overlap
    if overlap >= chip:
        raise UsageError(f"overlap {overlap}", f"0 to {chip - 1} px", "choose a smaller overlap")
    return plan(shape, chip, overlap)


def expected_peak_bytes(windows: ChipPlan, width: int, acquisitions: int) -> int:
    """Estimate the peak resident memory of a run: a fixed part, and one that grows with the scene's width.

    Parameters
    ----------
    windows
        Windows on the model's grid.
    width
        Of the scene's own grid, pixels.
    acquisitions
        Images a window: 1, or 2 with a pre-event acquisition.
    """
    sliding = 2 * 4 * windows.chip * windows.width * acquisitions
    # The rows that are handed over live beside those that are filled.
    mosaic = 4 * (2 * windows.chip + windows.overlap) * windows.width * acquisitions
    read_at_once = windows.step * windows.width
    reading = READING_BYTES * (read_at_once if read_at_once > BRIDGED_PX else min(read_at_once, PIECE_PX))
    return BASE_BYTES + sliding + mosaic + reading + WRITING_BYTES * windows.chip * width
