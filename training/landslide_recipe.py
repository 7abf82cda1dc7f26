"""The recipe of a landslide model: first whether there is any landslide, then where and how many."""

from typing import Literal

from pydantic import Field, model_validator

from tocsin.manifest import Version
from training.networks.landslide import LandslideConfig
from training.recipe_parts import Part, Stage
from training.start import Start


class LandslideData(Part):
    """Which pairs, relief and bursts; what is held out is named beside what is learnt from."""

    training_chips: int = Field(12_000, ge=2, description="Chips to learn from, drawn once.")
    calibration_chips: int = Field(1600, ge=4, description="Further chips of the same places, for temperatures.")
    test_chips: int = Field(900, ge=4, description="Simulated chips of which no relief was learnt from.")
    injected_share: float = Field(0.4, ge=0, le=1, description="Share of chips from real bursts, scars laid into them.")
    relief_share: float = Field(0.5, ge=0, le=1, description="Share of simulated chips on SRTM3 relief.")
    srtm3: str | None = Field("srtm3", description="Folder of SRTM3 tiles below TOCSIN_DATA; None: simulated relief.")
    tiles: tuple[str, ...] = Field(
        ("N13E120", "N13E121", "N14E121", "N40E140", "N42E012", "S06E150", "S17E168"),
        description="Tiles to learn from; all when empty.",
    )
    tiles_held_out: tuple[str, ...] = Field(
        ("N31E130", "N42E141", "S09E115"), description="Tiles that only test chips are drawn on; all when empty."
    )
    opera_rtc: str | None = Field(
        "opera_rtc/stable_california", description="Folder of bursts below TOCSIN_DATA; None: simulated chips alone."
    )
    bursts: tuple[str, ...] = Field(("T137-292319-IW2", "T137-292320-IW2"), description="Bursts to learn from.")
    bursts_held_out: tuple[str, ...] = Field(
        ("T137-292321-IW2", "T137-292325-IW1"), description="Bursts that nothing is learnt from."
    )
    forest: str | None = Field(
        "opera_rtc/png_2024_pre", description="Folder of a further site to judge by alone; None: none."
    )

    @model_validator(mode="after")
    def _apart(self) -> "LandslideData":
        """Refuse a place that would be learnt from and held out."""
        both = {*self.tiles} & {*self.tiles_held_out} | {*self.bursts} & {*self.bursts_held_out}
        if both:
            raise ValueError(f"{', '.join(sorted(both))} would be learnt from and held out")
        if self.opera_rtc is not None and self.injected_share > 0 and not self.bursts:
            raise ValueError("injected_share > 0 needs bursts to learn from")
        return self


class LandslideAugmentation(Part):
    """What may happen to a pair without moving its landslides."""

    all_acquisitions_share: float = Field(0.6, ge=0, le=1, description="Share of sides that keep three acquisitions.")
    smoothed_share: float = Field(0.3, ge=0, le=1, description="Share of chips that are despeckled.")
    lost_band_share: float = Field(0.25, ge=0, le=1, description="Share of chips that lose a band, mostly VV.")
    no_dem_share: float = Field(0.5, ge=0, le=1, description="Share of chips without terrain heights.")
    hole_share: float = Field(0.15, ge=0, le=1, description="Share of chips with a rectangle of no data.")
    offset_db: float = Field(0.2, ge=0, le=3, description="Std of a calibration offset of each acquisition, dB.")


class LandslideLoss(Part):
    """Weights of the losses."""

    density_class: float = Field(1.0, ge=0, le=10, description="Cross-entropy of the class.")
    density: float = Field(0.2, ge=0, le=10, description="Likelihood of the number of landslides.")
    mask: float = Field(4.0, ge=0, le=50, description="Cross-entropy and overlap of the pixels that both sides show.")
    overlap: float = Field(0.1, ge=0, le=10, description="Soft Jaccard loss of the mask beside its cross-entropy.")


class LandslideRecipe(Part):
    """A whole training."""

    hazard: Literal["landslide"] = Field(description="What the model judges.")
    name: str = Field(description="Name of the model in the repository.")
    version: Version = Field(description="Version of the model that this recipe makes.")
    seed: int = Field(ge=0, description="Seed of weights, draws and augmentation.")
    network: LandslideConfig = LandslideConfig()
    data: LandslideData = LandslideData()
    augmentation: LandslideAugmentation = LandslideAugmentation()
    loss: LandslideLoss = LandslideLoss()
    presence: Stage = Field(description="The first stage: does a chip hold any landslide?")
    segmentation: Stage = Field(description="The second stage, from the embedding of the first: where, and how many?")
    average_decay: float = Field(
        0.995, ge=0, lt=1, description="What a step keeps of the running mean of the weights, which is what is used."
    )
    start: Start | None = Field(None, description="Pretrained encoder of a network whose sides an encoder embeds.")
    precision: Literal["bf16-mixed", "32-true"] = Field("bf16-mixed", description="Arithmetic of the training.")
    threshold: float = Field(0.5, gt=0, lt=1, description="Probability from which a class is reached, set beforehand.")

    @model_validator(mode="after")
    def _with_encoder(self) -> "LandslideRecipe":
        if self.start is not None and self.network.encoder is None:
            raise ValueError("start needs network.encoder")
        return self
