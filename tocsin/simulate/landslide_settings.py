"""What a simulated landslide pair may contain."""

from pydantic import BaseModel, ConfigDict, Field, model_validator

_RANGES = (
    "density_per_km2",
    "size_factor",
    "elongation",
    "large_m2",
    "looks",
    "coarse_looks",
    "filtered_gain",
)


class ScarSettings(BaseModel):
    """Where scars lie, how large they are and what they do; a pair is a range that the scene draws from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pixel_m: float = Field(10.0, gt=0, le=100, description="Pixel spacing, m.")
    landslide_share: float = Field(0.5, ge=0, le=1, description="Share of scenes with landslides.")
    density_per_km2: tuple[float, float] = Field(
        (1.5, 120.0), description="Landslides per km2 where there are any, drawn evenly in its logarithm."
    )
    size_factor: tuple[float, float] = Field(
        (0.4, 2.5), description="Factor on every area of the law, as inventories differ in what they resolve."
    )
    largest_m2: float = Field(3e5, gt=100, le=1e7, description="Where the law of areas is cut off, m2.")
    large_share: float = Field(
        0.15, ge=0, le=1, description="Share of scenes with landslides whose first one is drawn from large_m2 instead."
    )
    large_m2: tuple[float, float] = Field((2e4, 3e5), description="Area of such a large landslide, m2.")
    elongation: tuple[float, float] = Field((1.5, 6.0), description="Length over width of a scar.")
    least_slope_deg: float = Field(15.0, ge=0, lt=60, description="Slope below which no landslide starts, deg.")
    aspect_preference: float = Field(
        0.6, ge=0, lt=1, description="Largest share by which slopes in the lee of storm or shaking hold fewer scars."
    )
    clustering: float = Field(
        2.0, ge=0, le=6, description="Largest natural logarithm of the trigger's change across a scene."
    )
    contrast: float = Field(1.0, gt=0, le=3, description="Factor on the mean change of backscatter in scars.")

    @model_validator(mode="after")
    def _ordered(self) -> "ScarSettings":
        """Refuse ranges that run backwards or reach 0."""
        for name in _RANGES:
            low, high = getattr(self, name, (1.0, 1.0))
            if not 0 < low <= high:
                raise ValueError(f"{name} is ({low}, {high}); expected two positive numbers, the smaller one first")
        return self


class LandslideSettings(ScarSettings):
    """What a simulated landslide pair may contain besides scars."""

    acquisitions: tuple[int, int] = Field((1, 3), description="Fewest and most acquisitions on each side.")
    mean_slope_deg: tuple[float, float] = Field((4.0, 30.0), description="Mean slope of simulated relief, deg.")
    looks: tuple[float, float] = Field((4.0, 12.0), description="Equivalent number of looks at the pixel spacing.")
    coarse_share: float = Field(
        0.4, ge=0, le=1, description="Share of scenes observed at three times the pixel spacing and resampled (OPERA)."
    )
    coarse_looks: tuple[float, float] = Field((7.0, 22.0), description="Equivalent number of looks of these.")
    filtered_share: float = Field(0.12, ge=0, le=1, description="Share of scenes that were despeckled.")
    filtered_gain: tuple[float, float] = Field((3.0, 10.0), description="Factor on the looks of these.")
    flattened_share: float = Field(0.85, ge=0, le=1, description="Share of terrain-flattened scenes (gamma0).")
    wet_db: float = Field(1.5, ge=0, le=4, description="Largest rise over bare ground when soil is wet, dB.")
    drift_db: float = Field(
        0.5, ge=0, le=3, description="Deviation of what changes between two acquisitions over each cover, dB."
    )
    lookalike_share: float = Field(0.25, ge=0, le=1, description="Share of scenes with each kind of look-alike.")
    masked_share: float = Field(0.4, ge=0, le=1, description="Share of scenes with layover and shadow as no data.")
    swath_edge_share: float = Field(0.08, ge=0, le=1, description="Share of scenes that a swath edge cuts on a side.")

    @model_validator(mode="after")
    def _possible(self) -> "LandslideSettings":
        """Refuse numbers of acquisitions and slopes that cannot be."""
        fewest, most = self.acquisitions
        if not 1 <= fewest <= most <= 3:
            raise ValueError(f"acquisitions is ({fewest}, {most}); expected one to three, the smaller number first")
        low, high = self.mean_slope_deg
        if not 0 <= low <= high <= 60:
            raise ValueError(f"mean_slope_deg is ({low}, {high}); expected 0 to 60 deg, the smaller one first")
        return self
