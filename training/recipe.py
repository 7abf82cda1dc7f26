"""The recipe: everything that decides what a training gives, read from YAML into one frozen model."""

from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import Discriminator, Field, Tag, TypeAdapter, ValidationError, model_validator

from tocsin.errors import UsageError
from tocsin.manifest import Normalisation, Version
from training.landslide_recipe import LandslideRecipe
from training.networks.build import NetworkConfig
from training.pretraining_recipe import PretrainingRecipe
from training.recipe_parts import Part, Stage
from training.start import Start
from training.volcano_recipe import VolcanoRecipe

RECIPES = Path(__file__).parent / "recipes"
"""Recipes that ship; a recipe is named by its stem or given as a file."""


class Augmentation(Part):
    """What may happen to a chip without changing where its water is.

    No photometric jitter: every change has a cause in the sensor or the processor (docs/concepts.md).
    """

    offset_db: float = Field(1.0, ge=0, le=5, description="Std of a calibration offset common to both bands, dB.")
    band_offset_db: float = Field(0.5, ge=0, le=5, description="Std of an offset of each band alone, dB.")
    lost_band_share: float = Field(0.06, ge=0, le=1, description="Share of chips that lose one band.")
    hole_share: float = Field(0.1, ge=0, le=1, description="Share of chips with a rectangle of no data.")
    flood_share: float = Field(0.5, ge=0, le=1, description="Share of real chips that a simulated flood is laid into.")


class EarlyStopping(Part):
    """When a stage ends before its steps: the IoU of one event that is neither trained on nor reported stops rising."""

    event: str = Field(description="Event kept out of training to watch.")
    every: int = Field(100, ge=1, description="Steps between looks.")
    patience: int = Field(3, ge=1, description="Looks without a better IoU before the stage ends.")


class FloodData(Part):
    """Which chips."""

    sen1floods11: str | None = Field("sen1floods11", description="Folder of the bucket below TOCSIN_DATA; None: none.")
    terramesh: str | None = Field(None, description="Folder of TerraMesh sites below TOCSIN_DATA; None: none.")
    terramesh_share: float = Field(0.2, ge=0, le=1, description="Share of the real chips drawn from TerraMesh sites.")
    simulated_chips: int = Field(4000, ge=1, description="Simulated scenes, drawn once.")
    chip_px: int = Field(256, ge=32, multiple_of=32, description="Rows and columns of a training chip.")


class Recipe(Part):
    """A whole training."""

    hazard: Literal["flood"] = Field(description="What the model judges.")
    name: str = Field(description="Name of the model in the repository.")
    version: Version = Field(description="Version of the model that this recipe makes.")
    seed: int = Field(ge=0, description="Seed of weights, draws and augmentation.")
    network: NetworkConfig
    normalisation: Normalisation
    data: FloodData = FloodData()
    augmentation: Augmentation = Augmentation()
    overlap_weight: float = Field(0.5, ge=0, le=10, description="Weight of the soft Jaccard loss beside cross-entropy.")
    stages: tuple[Stage, ...] = Field(min_length=1)
    kept_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of the weights before a stage with real chips that stays in those after it: what few chips "
        "teach is added to what the simulator taught, and does not replace it (Wortsman et al. 2022, CVPR).",
    )
    early_stopping: EarlyStopping | None = Field(None, description="Applies to stages with real chips.")
    start: Start | None = Field(None, description="Pretrained encoder of a network of the family encoder.")
    precision: Literal["bf16-mixed", "32-true"] = Field("bf16-mixed", description="Arithmetic of the training.")
    threshold: float = Field(0.5, gt=0, lt=1, description="Probability from which a pixel is water, set beforehand.")

    @model_validator(mode="after")
    def _data_for_stages(self) -> "Recipe":
        if self.data.sen1floods11 is None and any(stage.real_share > 0 for stage in self.stages):
            raise ValueError("a stage with real_share > 0 needs data.sen1floods11")
        if self.start is not None and self.network.family != "encoder":
            raise ValueError("start needs network.family encoder")
        return self


def _kind(given: Any) -> str | None:  # noqa: ANN401 - YAML of any shape, judged by pydantic afterwards
    """Return what a recipe says that it is: its task, or its hazard."""
    return str(given.get("task", given.get("hazard"))) if isinstance(given, dict) else None


AnyRecipe = Recipe | LandslideRecipe | VolcanoRecipe | PretrainingRecipe
_RECIPE: Final[TypeAdapter[AnyRecipe]] = TypeAdapter(
    Annotated[
        Annotated[Recipe, Tag("flood")]
        | Annotated[LandslideRecipe, Tag("landslide")]
        | Annotated[VolcanoRecipe, Tag("volcano")]
        | Annotated[PretrainingRecipe, Tag("pretraining")],
        Discriminator(_kind),
    ]
)


def read_recipe(name: str | Path) -> AnyRecipe:
    """Read a recipe by file, or one that ships by its name.

    Raises
    ------
    UsageError
        When it is not found, or not a recipe.
    """
    shipped = sorted(path.stem for path in RECIPES.glob("*.yaml"))
    path = RECIPES / f"{name}.yaml" if str(name) in shipped else Path(name)
    try:
        return _RECIPE.validate_python(yaml.safe_load(path.read_text()))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise UsageError(
            given=f"recipe {name} ({error})",
            expected=f"a YAML recipe: one of {', '.join(shipped)}, or a file",
            todo="see training/recipes for examples",
        ) from error
