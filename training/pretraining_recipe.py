"""The recipe of a pretraining: bands, encoder, method, views and unlabelled data, each apart."""

from typing import Literal

from pydantic import Field, model_validator

from training.collapse_watch import CollapseSettings
from training.datasets.unlabelled_sources import Source
from training.networks.encoders import EncoderConfig
from training.recipe_parts import Hardware, Part, Stage
from training.tasks.pretexts import Method
from training.views import ViewSettings

ONE_SIZE = {"swin", "local"}
"""Families whose encoders take chips of one size."""


class PretrainingRecipe(Part):
    """A whole pretraining."""

    task: Literal["pretraining"] = Field(description="What is done.")
    name: str = Field(description="Name of the folder that the checkpoint lies in.")
    seed: int = Field(ge=0, description="Seed of weights, draws and views.")
    modalities: dict[str, tuple[str, ...]] = Field(
        min_length=1, description="Bands by modality: one modality, or several for clip, each with its own encoder."
    )
    encoder: EncoderConfig = Field(description="Encoder of every modality; its channels follow from the bands.")
    method: Method = Field(description="What teaches it.")
    views: ViewSettings = ViewSettings()
    data: tuple[Source, ...] = Field(min_length=1, description="Unlabelled data sets and simulations.")
    stage: Stage = Field(description="The run.")
    collapse: CollapseSettings = CollapseSettings()
    hardware: Hardware = Hardware()
    precision: Literal["bf16-mixed", "32-true"] = Field("bf16-mixed", description="Arithmetic of the training.")

    @model_validator(mode="after")
    def _fits_together(self) -> "PretrainingRecipe":
        several = self.method.kind == "clip"
        if several != (len(self.modalities) > 1):
            raise ValueError(f"{self.method.kind} takes {'several modalities' if several else 'one modality'}")
        if self.encoder.chip_px != self.views.chip_px:
            raise ValueError(f"views of {self.views.chip_px} px for an encoder of {self.encoder.chip_px} px")
        if self.stage.batch < 2:
            raise ValueError("a batch holds at least two chips: what a chip is like is told by others")
        local = self.method.local if self.method.kind == "dino" else 0
        if local and self.encoder.family in ONE_SIZE and self.views.local_px != self.views.chip_px:
            raise ValueError(f"{self.encoder.family} takes chips of one size: local crops need local_px = chip_px")
        patch = self.encoder.patch_px if self.encoder.family == "vit" else 32
        if local and self.views.local_px % patch:
            raise ValueError(f"local crops of {self.views.local_px} px do not part into patches of {patch} px")
        return self
