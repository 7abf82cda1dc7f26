"""SimCLR (Chen et al. 2020): two views of a chip are told from those of all other chips in the batch."""

from typing import Literal

from pydantic import Field

from training.objectives.contrast import nt_xent
from training.recipe_parts import Part
from training.tasks.pretexts.pretext import Encoders, Judgement, Pretext, head
from training.views import ViewPlan, Views


class SimClrSettings(Part):
    """Head and temperature."""

    kind: Literal["simclr"] = Field(description="The method.")
    widths: tuple[int, ...] = Field((256, 128), min_length=1, max_length=4, description="Widths of the head.")
    temperature: float = Field(0.5, gt=0, le=5, description="Divisor of the cosines.")


class SimClr(Pretext):
    """SimCLR."""

    def __init__(self, encoders: Encoders, settings: SimClrSettings) -> None:
        super().__init__(encoders)
        self.plan = ViewPlan(whole=2)
        self.settings = settings
        self.head = head(self.encoder.width, settings.widths)

    def forward(self, views: Views) -> Judgement:
        """Contrast both views of each chip."""
        first, second = (self.encoder.pooled(each) for each in views.whole)
        loss = nt_xent(self.head(first), self.head(second), self.settings.temperature)
        return Judgement(loss, first)
