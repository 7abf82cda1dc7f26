"""The recipe of a volcano model: learn from simulated interferograms, adapt to real ones without their labels."""

from typing import Literal

from pydantic import Field

from tocsin.manifest import Version
from training.networks.volcano import VolcanoConfig
from training.phase_augmentation import PhaseAugmentation
from training.recipe_parts import Part, Stage
from training.start import Start


class VolcanoData(Part):
    """Which interferograms."""

    simulated_chips: int = Field(24_000, ge=2, description="Simulated scenes to learn from, drawn once.")
    calibration_chips: int = Field(
        3000, ge=4, description="Further simulated scenes: half to adapt beside, half for temperatures."
    )
    srtm3: str | None = Field("srtm3", description="Folder of SRTM3 tiles below TOCSIN_DATA; None: simulated relief.")
    relief_share: float = Field(0.4, ge=0, le=1, description="Share of scenes on real relief.")
    deepcube: str = Field("deepcube", description="Folder of DeepCube's S1 and C1 below TOCSIN_DATA.")
    series: str | None = Field(
        "licsar_series", description="Folder of LiCSAR series below TOCSIN_DATA, for unlabelled phase; None: without."
    )


class VolcanoLoss(Part):
    """Weights of the losses beside the decision's cross-entropy, which has weight 1."""

    pull: float = Field(0.1, ge=0, le=10, description="Pull of an embedding to its prototype.")
    source: float = Field(0.3, ge=0, le=10, description="Cross-entropy of the source type, where there is a source.")
    mask: float = Field(1.0, ge=0, le=10, description="Cross-entropy of the deformation mask.")


class Adaptation(Part):
    """The second stage of Bountos et al. (2022): pseudo-labels and a non-linear projection, all else frozen."""

    hidden: tuple[int, ...] = Field(
        (256, 256),
        max_length=4,
        description="Hidden widths of the projection; theirs, 8096 and 16000, are larger than the whole model here.",
    )
    steps: int = Field(600, ge=1, description="Optimiser steps.")
    batch: int = Field(256, ge=2, description="Pooled features a step, as many of either pseudo-label.")
    learning_rate: float = Field(1e-3, gt=0, le=1, description="Peak learning rate of AdamW.")
    weight_decay: float = Field(1e-2, ge=0, le=1, description="Decoupled weight decay.")
    pull: float = Field(0.1, ge=0, le=10, description="Pull of an embedding to its prototype.")
    views: int = Field(4, ge=1, le=16, description="Views of each picture: mirrored, with the other sign, turned.")
    simulated_share: float = Field(0.5, ge=0, lt=1, description="Share of simulated features in a step.")


class VolcanoRecipe(Part):
    """A whole training."""

    hazard: Literal["volcano"] = Field(description="What the model judges.")
    name: str = Field(description="Name of the model in the repository.")
    version: Version = Field(description="Version of the model that this recipe makes.")
    seed: int = Field(ge=0, description="Seed of weights, draws and augmentation.")
    network: VolcanoConfig
    data: VolcanoData = VolcanoData()
    augmentation: PhaseAugmentation = PhaseAugmentation()
    loss: VolcanoLoss = VolcanoLoss()
    stage: Stage = Field(description="The run on simulated scenes.")
    average_decay: float = Field(
        0.998, ge=0, lt=1, description="What a step keeps of the running mean of the weights, which is what is used."
    )
    adaptation: Adaptation | None = Field(None, description="None: the network as the simulator taught it.")
    start: Start | None = Field(None, description="Pretrained encoder; None: random weights.")
    precision: Literal["bf16-mixed", "32-true"] = Field("bf16-mixed", description="Arithmetic of the training.")
    threshold: float = Field(0.5, gt=0, lt=1, description="Probability of deformation from which a chip counts.")
