"""What a simulated interferogram may contain."""

from typing import Final

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tocsin.simulate.sources import SOURCES, SourceName

PIXEL_M: Final = (80.0, 350.0)
"""Pixel spacings of a simulated scene, m."""


class InterferogramSettings(BaseModel):
    """What a simulated interferogram may contain; a pair is a range that the scene draws from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    deforming_share: float = Field(0.5, ge=0, le=1, description="Share of scenes with deformation.")
    cone_share: float = Field(
        0.25, ge=0, le=1, description="Share of the others that are hard negatives: concentric delay around a cone."
    )
    sources: tuple[SourceName, ...] = Field(SOURCES, min_length=1, description="Kinds of source, drawn alike.")
    pixel_m: tuple[float, float] = Field(PIXEL_M, description="Pixel spacing, m.")
    peak_rad: tuple[float, float] = Field((5.0, 150.0), description="Largest phase of the deformation, rad.")
    contrast: float = Field(
        3.0, ge=0, le=20, description="Least peak of the deformation over the standard deviation of all delays."
    )
    gradient_rad: tuple[float, float] = Field((0.8, 4.0), description="Steepest deformation, rad per pixel.")
    deflating_share: float = Field(0.3, ge=0, le=1, description="Share of volume sources that deflate.")
    outside_share: float = Field(
        0.08, ge=0, le=1, description="Share of sources that lie beyond the scene's edge and reach into it."
    )
    second_share: float = Field(0.15, ge=0, le=1, description="Share of deforming scenes with a second source.")
    mask_rad: float = Field(1.0, gt=0, le=20, description="Phase above which a pixel counts as deforming, rad.")
    mask_share: float = Field(
        0.15, ge=0, lt=1, description="Share of the peak above which it does, where that is more than mask_rad."
    )
    turbulence_rad: tuple[float, float] = Field((0.2, 2.5), description="Deviation of turbulent delay, rad.")
    stratified_rad_per_km: float = Field(3.0, ge=0, le=30, description="Deviation of stratified delay, rad per km.")
    ramp_rad: float = Field(8.0, ge=0, le=100, description="Largest orbital ramp across the scene, rad.")
    steep_ramp_share: float = Field(0.06, ge=0, le=1, description="Share of scenes with a ramp of many fringes.")
    steep_ramp_rad: float = Field(100.0, ge=0, le=300, description="Largest of these ramps across the scene, rad.")
    cone_rad_per_km: tuple[float, float] = Field(
        (3.0, 9.0), description="Stratified delay over the cone of a hard negative, rad per km of height."
    )
    step_share: float = Field(0.05, ge=0, le=1, description="Share of scenes with a jump between bursts or swaths.")
    coast_share: float = Field(0.4, ge=0, le=1, description="Share of simulated reliefs that reach the sea.")
    hole_share: float = Field(0.6, ge=0, le=1, description="Share of scenes with incoherent holes of 2 to 97 %.")
    lost_share: float = Field(0.15, ge=0, le=1, description="Share of scenes still that lose their phase nearly all.")
    island_share: float = Field(
        0.9, ge=0, le=1, description="Share of scenes about nothing that get a coherent island if they lack one there."
    )
    swath_edge_share: float = Field(0.15, ge=0, le=1, description="Share of scenes that a swath edge cuts.")
    masked_share: float = Field(0.15, ge=0, le=1, description="Share of scenes whose incoherent pixels are no data.")
    looks: tuple[float, float] = Field((8.0, 60.0), description="Effective number of looks.")
    filtered_share: float = Field(0.3, ge=0, le=1, description="Share of scenes with smoothed phase noise.")

    @model_validator(mode="after")
    def _ordered(self) -> "InterferogramSettings":
        """Refuse ranges that run backwards or reach 0."""
        for name in ("pixel_m", "peak_rad", "gradient_rad", "turbulence_rad", "looks", "cone_rad_per_km"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} is ({low}, {high}); expected two positive numbers, the smaller one first")
        return self
