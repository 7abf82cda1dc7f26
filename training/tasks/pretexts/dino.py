"""DINO (Caron et al. 2021): a student says of every crop what its running mean says of whole views."""

import copy
import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from training.networks.bands import BandEncoder
from training.objectives.distillation import distillation, moved_centre
from training.recipe_parts import Part
from training.tasks.pretexts.pretext import Encoders, Judgement, Pretext
from training.views import ViewPlan, Views


class DinoSettings(Part):
    """Crops, head, temperatures and how slowly the teacher follows."""

    kind: Literal["dino"] = Field(description="The method.")
    local: int = Field(8, ge=0, le=16, description="Local crops beside two whole views.")
    widths: tuple[int, ...] = Field((256, 256), min_length=1, max_length=4, description="Hidden widths of the head.")
    bottleneck: int = Field(64, ge=8, le=1024, description="Channels of unit length before the last layer.")
    outputs: int = Field(1024, ge=8, le=65536, description="Axes of the head's output.")
    student_temperature: float = Field(0.1, gt=0, le=1, description="Divisor of the student's logits.")
    teacher_temperature: tuple[float, float] = Field(
        (0.04, 0.07), description="Divisor of the teacher's logits, at the beginning and after warming up."
    )
    warm_up_share: float = Field(0.3, ge=0, le=1, description="Share of steps in which it warms up.")
    momentum: float = Field(0.996, ge=0, lt=1, description="What a step keeps of the teacher at first; 1 at the end.")
    centre_momentum: float = Field(0.9, ge=0, lt=1, description="What a step keeps of the centre.")


class Dino(Pretext):
    """DINO; what is kept at the end is the teacher."""

    def __init__(self, encoders: Encoders, settings: DinoSettings) -> None:
        super().__init__(encoders)
        self.plan = ViewPlan(whole=2, local=settings.local)
        self.settings = settings
        self.head = DinoHead(self.encoder.width, settings)
        self.teacher, self.teacher_head = copy.deepcopy(self.encoder), copy.deepcopy(self.head)
        for parameter in (*self.teacher.parameters(), *self.teacher_head.parameters()):
            parameter.requires_grad = False
        self.register_buffer("centre", torch.zeros(settings.outputs))
        self.register_buffer("share", torch.zeros(()))

    centre: Tensor
    share: Tensor

    def forward(self, views: Views) -> Judgement:
        """Compare all crops of the student to whole views of the teacher."""
        whole = torch.cat(views.whole)
        embedding = self.encoder.pooled(whole)
        student = list(self.head(embedding).chunk(2))
        if views.local:
            student += list(self.head(self.encoder.pooled(torch.cat(views.local))).chunk(len(views.local)))
        with torch.no_grad():
            teacher = self.teacher_head(self.teacher.pooled(whole)).chunk(2)
        temperatures = self.settings.student_temperature, self._teacher_temperature()
        loss = distillation(student, teacher, self.centre, temperatures)
        if self.training:
            self.centre.copy_(moved_centre(self.centre, teacher, self.settings.centre_momentum))
        return Judgement(loss, embedding[: len(views.whole[0])])

    def after_step(self, share: float) -> None:
        """Let the teacher follow; the momentum rises to 1 as a cosine (Caron et al. 2021, section 3.1)."""
        self.share.fill_(share)
        kept = 1 - (1 - self.settings.momentum) * (math.cos(math.pi * share) + 1) / 2
        pairs = ((self.teacher, self.encoder), (self.teacher_head, self.head))
        with torch.no_grad():
            for mean, follows in pairs:
                for old, new in zip(mean.parameters(), follows.parameters(), strict=True):
                    old.lerp_(new, 1 - kept)
                for kept_buffer, buffer in zip(mean.buffers(), follows.buffers(), strict=True):
                    kept_buffer.copy_(buffer)

    def taught(self, modality: str) -> BandEncoder:
        """Return the teacher."""
        del modality
        return self.teacher

    def _teacher_temperature(self) -> float:
        low, high = self.settings.teacher_temperature
        warm_up = self.settings.warm_up_share
        done = 1.0 if warm_up == 0 else min(1.0, float(self.share) / warm_up)
        return low + (high - low) * done


class DinoHead(nn.Module):
    """Linear layers with GELU, a bottleneck of unit length, and directions of unit length."""

    def __init__(self, channels: int, settings: DinoSettings) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in settings.widths:
            layers += [nn.Linear(channels, width), nn.GELU()]
            channels = width
        self.body = nn.Sequential(*layers, nn.Linear(channels, settings.bottleneck))
        self.directions = nn.Parameter(torch.empty(settings.outputs, settings.bottleneck))
        nn.init.trunc_normal_(self.directions, std=0.02)

    def forward(self, x_BC: Tensor) -> Tensor:
        """Map what stands for each chip [B, C] to logits [B, K]."""
        unit = nn.functional.normalize(self.body(x_BC), dim=1)
        return nn.functional.linear(unit, nn.functional.normalize(self.directions, dim=1))
