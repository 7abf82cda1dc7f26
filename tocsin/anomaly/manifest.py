"""What lies beside a fitted graph: what was fitted, to which epochs, with which encoder and constants."""

import hashlib
from datetime import date
from pathlib import Path
from typing import Final, Literal

from pydantic import Field, ValidationError, model_validator

from tocsin.anomaly.settings import FitSettings
from tocsin.errors import ModelInvalidError, ModelUnknownError
from tocsin.manifest import FileRecord, Parity, Record, Sha256, Text

GRAPH: Final = "model.onnx"
MANIFEST: Final = "manifest.json"
MANIFEST_BYTES: Final = 4 << 20

INPUT: Final = "motion"
SCORE: Final = "score"
MAP: Final = "map"


class SeriesFacts(Record):
    """The series that was fitted, and the window that every interferogram to score must have."""

    id: Text = Field(description="file stem")
    sha256: Sha256 = Field(description="of the file")
    frame: str = Field(description="LiCSAR frame, empty when its name does not tell")
    shape: tuple[int, int] = Field(description="rows and columns")
    lat_deg: tuple[float, float] = Field(description="centres of the first and the last row, degrees")
    lon_deg: tuple[float, float] = Field(description="centres of the first and the last column, degrees")


class EncoderFacts(Record):
    """The model whose encoder is inside."""

    model: Text = Field(description="name in the model repository")
    version: Text = Field(description="its version")
    sha256: Sha256 = Field(description="of the graph that the encoder was cut from")
    architecture: Text = Field(description="its network")


class Constants(Record):
    """What the fit set and the code fixed; all of it is inside the graph as well."""

    rad_per_m: float = Field(lt=0, description="phase of a metre toward the satellite, rad")
    fill_sigma_px: float = Field(gt=0, description="sigma of the interpolation of missing pixels, chip pixels")
    metres_per_pi: float = Field(gt=0, description="deviation from the image's mean that becomes pi, m")
    grid_px_per_chip_px: float = Field(ge=1, description="averaging of the grid to fit the chip")
    smooth_cells: float = Field(gt=0, description="sigma of the smoothing of the map, cells")
    cells: int = Field(ge=1, description="cells that are judged, each with its own Gaussian")
    channels: dict[str, tuple[int, ...]] = Field(description="channels drawn, per feature map")


class HeldOut(Record):
    """A fit epoch, scored by a fit without it and its neighbours."""

    date: date
    score: float


class AnomalyManifest(Record):
    """Everything in the `manifest.json` of a fitted model."""

    kind: Literal["anomaly"] = "anomaly"
    tocsin: Text = Field(description="version of this package")
    series: SeriesFacts
    fit_epochs: tuple[HeldOut, ...] = Field(min_length=2, description="epochs fitted, with their held-out scores")
    left_out: tuple[date, ...] = Field(description="epochs of that time that hold no measurement")
    encoder: EncoderFacts
    settings: FitSettings
    constants: Constants
    threshold: float = Field(description="score above which an epoch is anomalous, no unit")
    threshold_rule: Text = Field(description="how it was set")
    parity: Parity = Field(description="the graph against the numpy reference")
    licence: Text = Field(description="of the encoder's weights, SPDX identifier")
    attribution: Text = Field(description="what has to be said when the model or its products are shared")
    graph: FileRecord = Field(description="the fitted graph")

    @model_validator(mode="after")
    def _names_its_graph(self) -> "AnomalyManifest":
        if self.graph.path != GRAPH:
            raise ValueError(f"the graph is called {GRAPH}")
        return self


def read_model(folder: Path) -> tuple[AnomalyManifest, Path]:
    """Return the manifest of a fitted model and its graph, after checking the graph's sha256.

    Raises
    ------
    ModelUnknownError
        There is no such model.
    ModelInvalidError
        The manifest is broken, or the graph is not the one that it was written for.
    """
    path, graph = folder / MANIFEST, folder / GRAPH
    if not path.is_file():
        raise ModelUnknownError(f"{folder} without {MANIFEST}", "a fitted model", "write one with tocsin anomaly fit")
    try:
        if path.stat().st_size > MANIFEST_BYTES:
            raise _invalid(f"{path} of {path.stat().st_size} bytes", f"at most {MANIFEST_BYTES} bytes")
        manifest = AnomalyManifest.model_validate_json(path.read_bytes())
        with graph.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise _invalid(f"{path}, where {where}: {first['msg']}", "a manifest as this version writes it") from error
    except OSError as error:
        raise _invalid(f"{folder} ({error})", f"{MANIFEST} and {GRAPH}") from error
    if digest != manifest.graph.sha256:
        raise _invalid(f"{graph} with sha256 {digest}", f"sha256 {manifest.graph.sha256}, as {MANIFEST} says")
    return manifest, graph


def _invalid(given: str, expected: str) -> ModelInvalidError:
    return ModelInvalidError(given, expected, "restore the folder, or fit the series again")
