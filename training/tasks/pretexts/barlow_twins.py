"""Barlow Twins (Zbontar et al. 2021): axes agree between two views, and no two axes say the same."""

from typing import Literal

from pydantic import Field

from training.objectives.redundancy import barlow_twins
from training.recipe_parts import Part
from training.tasks.pretexts.pretext import Encoders, Judgement, Pretext, head
from training.views import ViewPlan, Views


class BarlowTwinsSettings(Part):
    """Head and weight of redundancy."""

    kind: Literal["barlow_twins"] = Field(description="The method.")
    widths: tuple[int, ...] = Field((512, 512, 512), min_length=1, max_length=4, description="Widths of the head.")
    redundancy: float = Field(0.0051, gt=0, le=1, description="Weight of what lies off the diagonal.")


class BarlowTwins(Pretext):
    """Barlow Twins."""

    def __init__(self, encoders: Encoders, settings: BarlowTwinsSettings) -> None:
        super().__init__(encoders)
        self.plan = ViewPlan(whole=2)
        self.settings = settings
        self.head = head(self.encoder.width, settings.widths, last_bias=False)

    def forward(self, views: Views) -> Judgement:
        """Compare the axes of both views."""
        first, second = (self.encoder.pooled(each) for each in views.whole)
        loss = barlow_twins(self.head(first), self.head(second), self.settings.redundancy)
        return Judgement(loss / self.settings.widths[-1], first)
