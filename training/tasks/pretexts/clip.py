"""CLIP-style contrast between modalities: amplitude, coherence or a second date, optics (Radford et al. 2021).

Each modality has its own encoder. The loss is the mean over all pairs of modalities of the symmetric cross-entropy,
over the chips that have both. That modalities and single bands may be missing in use is learnt by taking them away in
views (after arXiv 2310.00119, whose own loss is not established here).
"""

import math
from itertools import combinations
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from training.objectives.contrast import info_nce
from training.recipe_parts import Part
from training.tasks.pretexts.pretext import Encoders, Judgement, Pretext
from training.views import ViewPlan, Views

LARGEST_SCALE = 100.0
"""Bound of the learnt factor of cosines (Radford et al. 2021, section 2.5)."""


class ClipSettings(Part):
    """Space and first temperature."""

    kind: Literal["clip"] = Field(description="The method.")
    width: int = Field(128, ge=8, le=2048, description="Axes of the space that modalities share.")
    temperature: float = Field(0.07, gt=0, le=5, description="Divisor of the cosines at first; it is learnt.")


class Clip(Pretext):
    """CLIP-style contrast."""

    def __init__(self, encoders: Encoders, settings: ClipSettings) -> None:
        super().__init__(encoders)
        self.plan = ViewPlan(whole=1)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(each.width, settings.width, bias=False) for name, each in encoders.items()}
        )
        self.log_scale = nn.Parameter(torch.tensor(-math.log(settings.temperature)))

    def forward(self, views: Views) -> Judgement:
        """Contrast the modalities of each chip."""
        raw = dict(zip(self.encoders, self._parted(views.whole[0]), strict=True))
        present = {name: torch.isfinite(each).flatten(1).any(dim=1) for name, each in raw.items()}
        placed = {name: self.heads[name](self.taught(name).pooled(each)) for name, each in raw.items()}
        scale = self.log_scale.exp().clamp(max=LARGEST_SCALE)
        losses = [
            info_nce(placed[one], placed[other], scale, present[one] & present[other])
            for one, other in combinations(placed, 2)
        ]
        total: Tensor = torch.stack(losses).mean()
        first = next(iter(placed))
        seen = present[first] if int(present[first].sum()) > 1 else torch.ones_like(present[first])
        return Judgement(total, placed[first][seen])

    def _parted(self, raw: Tensor) -> tuple[Tensor, ...]:
        return torch.split(raw, [len(self.taught(name).bands) for name in self.encoders], dim=1)
