"""The object that a scoring returns and prints: one JSON object, the same from CLI, Python, HTTP and batch."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

Hazard = Literal["flood", "landslide", "volcano"]
Status = Literal["ok", "empty", "partial"]
ProductName = Literal[
    "class", "probability", "polygons", "quicklook", "item", "exclusion", "density", "mask", "geopackage", "anomaly"
]
Fraction = Annotated[float, Field(ge=0, le=1)]
Area = Annotated[float, Field(ge=0, description="true area, km2")]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SceneFacts(_Part):
    """What was scored."""

    id: str = Field(description="file stem of the scene; product names start with it")
    crs: str = Field(description="authority code such as EPSG:32630, else WKT")
    shape: tuple[int, int] = Field(description="rows and columns, pixels")
    bounds: tuple[float, float, float, float] = Field(description="left, bottom, right, top in units of `crs`")
    valid_fraction: Fraction | None = Field(description="share of pixels with a result; null when not scored")
    acquired: AwareDatetime | None = Field(description="UTC time of the (post-event) acquisition; null when unknown")


class FloodSummary(_Part):
    """Equal-area figures of a flood map."""

    observed_km2: Area
    water_km2: Area
    flood_km2: Area | None = Field(description="null without pre-event scene or reference water")
    permanent_km2: Area | None = Field(description="null without pre-event scene or reference water")
    polygons: int = Field(ge=0)


class LandslideSummary(_Part):
    """Figures of a landslide map; areas are of ground that was seen on both sides of the event and can be judged."""

    observed_km2: Area = Field(description="ground of the judged cells")
    landslide_km2: Area = Field(description="of these, ground of the mask in cells of class low or high")
    expected_landslides: float | None = Field(
        ge=0, description="sum of density x observed area; null when nothing was observed"
    )
    expected_landslides_interval: tuple[float, float] | None = Field(
        description="90 %: see tocsin.landslide_cells.count_interval for what it covers; null when nothing was observed"
    )
    cells: int = Field(ge=0, description="cells that were judged: none, low or high")
    low_cells: int = Field(ge=0)
    high_cells: int = Field(ge=0)
    days_between: float | None = Field(
        description="from the last acquisition before to the first one after; null when a time is unknown"
    )


class VolcanoSummary(_Part):
    """What an observatory asks of an interferogram first."""

    observed_km2: Area | None = Field(description="neither no data nor not observable; null without a georeference")
    deforming_km2: Area | None = Field(description="null without a georeference")
    deformation_probability: Fraction | None = Field(description="highest of all chips; null when nothing was observed")
    label: Literal["deformation", "stable"] | None = Field(
        description="whether that reaches the threshold; null when nothing was observed"
    )
    source: str | None = Field(description="most probable kind of source in that chip; null unless `deformation`")
    source_probability: Fraction | None = Field(description="its probability; null unless `deformation`")
    detections: int = Field(ge=0, description="polygons of deforming ground")

    @property
    def verdict(self) -> str:
        """The label in words, with its probability and kind of source."""
        if self.label is None or self.deformation_probability is None:
            return "Nothing observed"
        probability = probability_text(self.deformation_probability)
        if self.label == "stable":
            return f"No deformation seen, highest {probability}"
        return f"Deformation, {probability}" + (f", {self.source}" if self.source else "")


def probability_text(probability: float) -> str:
    """Two decimals, never 0 or 1 when it is neither: "P 0.97"."""
    if 0 < probability < 0.005:
        return "P < 0.01"
    return "P > 0.99" if 0.995 <= probability < 1 else f"P {probability:.2f}"


class AnomalySummary(_Part):
    """How far an interferogram is from the normal epochs of its volcano."""

    score: float | None = Field(description="largest smoothed distance, no unit; null when nothing was measured")
    threshold: float = Field(description="score above which it is anomalous, from the fit set")
    anomalous: bool | None = Field(description="null when nothing was measured")


class ScoringPlan(_Part):
    """Summary of a dry run: what a run would do. Nothing is written, so `products` is empty."""

    windows: int = Field(ge=1, description="windows that cover the scene, each of `chip_px` squared")
    windows_to_run: int = Field(ge=0, description="of these, windows with a valid pixel inside the area of interest")
    chip_px: int = Field(ge=1)
    overlap_px: int = Field(ge=0)
    expected_peak_bytes: int = Field(ge=0, description="estimate of the peak resident memory of a run")
    bytes_to_write: int = Field(ge=0, description="upper estimate: rasters before compression")


Summary = FloodSummary | LandslideSummary | VolcanoSummary | AnomalySummary | ScoringPlan


class ResultWarning(_Part):
    """Something a reader of the product must know, which did not stop the run."""

    code: str = Field(pattern="^[a-z][a-z0-9_]*$")
    message: str


class InputFile(_Part):
    """One file that was read."""

    href: str
    sha256: Sha256 | None = Field(description="null in a dry run, which reads no whole file")


class Resampled(_Part):
    """Pixel sizes before and after resampling to the model's grid, metres (x, y)."""

    from_m: tuple[float, float]
    to_m: tuple[float, float]
    method: str = Field(description="how what was read came to the model's pixels, and the result back")


class Provenance(_Part):
    """What really ran."""

    model: str
    version: str
    sha256: Sha256 = Field(description="of the graph that ran")
    precision: str
    runtime: str
    device: str
    threshold: float = Field(description="probability from which a pixel counts; of an anomaly model, a score")
    tocsin: str = Field(description="version of this package")
    inputs: tuple[InputFile, ...]
    resampled: Resampled | None
    scales_m: tuple[tuple[float, float], ...] | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="pixel sizes (x, y) at which the model ran, metres; absent where `resampled` says it",
    )
    started: AwareDatetime
    seconds: float = Field(ge=0)


class Result(_Part):
    """Outcome of one scene.

    ``status`` is ``ok``, ``empty`` (no valid pixel: rasters all no data) or ``partial`` (interrupted). A dry run is
    ``ok`` with no product and a `ScoringPlan` as its summary.
    """

    hazard: Hazard
    status: Status
    scene: SceneFacts
    products: dict[ProductName, str] = Field(description="paths of what was written")
    summary: Summary
    warnings: tuple[ResultWarning, ...] = ()
    provenance: Provenance

    def to_json(self, indent: int | None = None) -> str:
        """Return the JSON object of the contract, times in UTC with a Z."""
        return self.model_dump_json(indent=indent)
