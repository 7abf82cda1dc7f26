"""Coarse relief as a second pretext: SimCLR + elevation and GLCNet + elevation (arXiv 2304.06857).

Heights of a view in which nothing was changed are predicted on a coarse grid, beside a contrast of two changed views:
alpha * error of heights + (1 - alpha) * contrast. The contrast is global (SimCLR), or shares its weight with one of
points that both views show (GLCNet: beta * global + (1 - beta) * local).
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from training.networks.volcano import MaskDecoder
from training.objectives.contrast import at_points, nt_xent
from training.objectives.reconstruction import measured_error
from training.recipe_parts import Part
from training.tasks.pretexts.pretext import Encoders, Judgement, Pretext, head
from training.views import ViewPlan, Views


class ElevationSettings(Part):
    """Weights, heads and the grid of heights."""

    kind: Literal["simclr_elevation", "glcnet_elevation"] = Field(description="The method.")
    alpha: float = Field(0.5, ge=0, le=1, description="Weight of the heights; 0 is the contrast alone.")
    beta: float = Field(0.5, ge=0, le=1, description="Weight of the global contrast beside the local one of GLCNet.")
    widths: tuple[int, ...] = Field((512, 128), min_length=1, max_length=4, description="Widths of the heads.")
    decoder: int = Field(64, ge=8, le=256, description="Channels of the decoder of heights and of points.")
    temperature: float = Field(0.5, gt=0, le=5, description="Divisor of the cosines.")
    grid_px: int = Field(32, ge=4, le=128, description="Rows and columns of the grid of heights.")
    height_m: float = Field(500.0, gt=0, description="Divisor of heights, m.")
    relief: bool = Field(
        default=False, description="Heights over the mean of the view, which say nothing of where on Earth it lies."
    )
    points: int = Field(4, ge=1, le=64, description="Points of each chip that GLCNet contrasts.")


class Elevation(Pretext):
    """Contrast with coarse relief as a second pretext."""

    def __init__(self, encoders: Encoders, settings: ElevationSettings) -> None:
        super().__init__(encoders)
        self.local = settings.kind == "glcnet_elevation"
        self.plan = ViewPlan(whole=2, heights=True, points=settings.points if self.local else 0)
        self.settings = settings
        inner = self.encoder.encoder
        self.head = head(self.encoder.width, settings.widths)
        self.heights = MaskDecoder(inner.channels, inner.strides, settings.decoder)
        self.point_head = head(settings.decoder, settings.widths) if self.local else nn.Identity()

    def forward(self, views: Views) -> Judgement:
        """Contrast both views, and predict heights."""
        settings = self.settings
        first, second = (self.encoder.pooled(each) for each in views.whole)
        contrast = nt_xent(self.head(first), self.head(second), settings.temperature)
        if self.local:
            one, other = (self._points(each, views.points[number]) for number, each in enumerate(views.whole))
            contrast = settings.beta * contrast + (1 - settings.beta) * nt_xent(one, other, settings.temperature)
        said = self.heights(self.encoder(views.plain), views.plain.shape[-2])
        error = measured_error(self._coarse(said)[0], self._target(views.height))
        return Judgement(settings.alpha * error + (1 - settings.alpha) * contrast, first)

    def _points(self, raw: Tensor, points_BP2: Tensor) -> Tensor:
        """Return projections of points, [B * P, D]."""
        features = self.heights.features(self.encoder(raw))
        projected: Tensor = self.point_head(at_points(features, points_BP2).flatten(0, 1))
        return projected

    def _coarse(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return means over what is known on the grid of heights, and the share of it that is."""
        known = (~torch.isnan(values)).to(values.dtype)
        total, share = (
            nn.functional.adaptive_avg_pool2d(each, self.settings.grid_px)
            for each in (torch.where(known > 0, values, 0), known)
        )
        return total / share.clamp_min(1e-6), share

    def _target(self, height: Tensor) -> Tensor:
        """Return scaled heights on the coarse grid, NaN where less than half of a cell is known."""
        coarse, share = self._coarse(height)
        known = share >= 0.5
        if self.settings.relief:
            weight = known.to(coarse.dtype)
            total = (coarse * weight).sum(dim=(2, 3), keepdim=True)
            coarse = coarse - total / weight.sum(dim=(2, 3), keepdim=True).clamp_min(1)
        return torch.where(known, coarse / self.settings.height_m, torch.nan)
