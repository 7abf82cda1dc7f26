"""The manifest: what export writes beside each graph and everything else trusts.

One `manifest.json` a model. It states what a caller must know before sending a single pixel (inputs, units, chip,
ground sampling distance), what the numbers that come back mean (outputs, threshold, calibration), how good they were
(metrics, each beside a baseline) and what exactly is run (artifacts with sha256 and parity). `ModelFacts` is the part
known before a graph exists; export also writes it into the graph's `metadata_props`, so that a file opened alone
explains itself.
"""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, model_validator

DYNAMIC = -1
"""Size of an axis that the caller chooses, as a multiple of `ModelFacts.multiple_of`."""

Hazard = Literal["flood", "landslide", "volcano"]
Precision = Literal["fp32", "fp16", "int8"]

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
SEMVER = r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$"
Version = Annotated[str, StringConstraints(pattern=SEMVER)]
AxisSize = Annotated[int, Field(ge=DYNAMIC, le=8192)]


class Record(BaseModel):
    """Base of every record here: immutable, no unknown keys, only finite numbers (JSON has no NaN)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Normalisation(Record):
    """How a graph scales one input, per band: clamp to [low, high], then (x - mean) / std."""

    low: tuple[float, ...] = Field(min_length=1, description="Lowest value kept, in the input's unit")
    high: tuple[float, ...] = Field(min_length=1, description="Highest value kept, in the input's unit")
    mean: tuple[float, ...] = Field(min_length=1, description="Mean over valid training pixels, in the input's unit")
    std: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        min_length=1, description="Standard deviation over valid training pixels, in the input's unit"
    )

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if not len(self.low) == len(self.high) == len(self.mean) == len(self.std):
            raise ValueError("low, high, mean and std need one value per band each")
        if not all(low < mean < high for low, mean, high in zip(self.low, self.mean, self.high, strict=True)):
            raise ValueError("every band needs low < mean < high")
        return self


class Calibration(Record):
    """How logits become probabilities: sigmoid(logit / temperature + bias) (Guo et al. 2017, section 4.2).

    Over several bands it is softmax(logits / temperature), and a bias has no meaning.
    """

    kind: Literal["none", "temperature"] = Field(description="none: logits as they are; temperature: scaled as stated")
    temperature: float = Field(default=1.0, gt=0, le=100, description="Divisor of the logit, no unit")
    bias: float = Field(default=0.0, ge=-50, le=50, description="Offset of the scaled logit, no unit")
    data: str = Field(default="", description="What temperature and bias were fitted on")

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.kind == "none" and (self.temperature, self.bias) != (1.0, 0.0):
            raise ValueError("calibration 'none' means temperature 1 and bias 0")
        return self


class TensorSpec(Record):
    """One input or output of a graph: float32, batch first."""

    name: Name = Field(description="Name of the tensor in the graph and in KServe v2 requests")
    description: Text = Field(description="What the values are, their range, and what NaN means")
    bands: tuple[Text, ...] = Field(min_length=1, description="Names along the first axis after the batch, in order")
    unit: Text = Field(description="Unit of every value, for example dB, m, rad, 1 for a probability")
    dtype: Literal["float32"] = Field(default="float32", description="Type of every value")
    shape: tuple[AxisSize, ...] = Field(
        min_length=1, max_length=4, description="Axis sizes without the batch, in pixels; -1: chosen by the caller"
    )
    optional: bool = Field(default=False, description="True when the whole input may be NaN")
    normalisation: Normalisation | None = Field(
        default=None, description="Scaling inside the graph; null for outputs, and for what needs none"
    )
    calibration: Calibration | None = Field(
        default=None, description="How this output's logits became probabilities, when not as the model's calibration"
    )

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if 0 in self.shape:
            raise ValueError("an axis has at least one element; -1 says that the caller chooses")
        if self.normalisation is not None and len(self.normalisation.mean) != len(self.bands):
            raise ValueError(f"normalisation has {len(self.normalisation.mean)} values for {len(self.bands)} bands")
        return self


class Architecture(Record):
    """The network inside the graph."""

    name: Text = Field(description="Name of the network, as docs/accuracy.md lists it")
    parameters: int = Field(ge=1, description="Number of trained values")
    config: dict[str, JsonValue] = Field(description="What training.networks.build needs to make the same network")


class DataSource(Record):
    """One data set that a model was trained, calibrated or judged on."""

    name: Text = Field(description="Name of the data set")
    chips: int = Field(ge=0, description="Number of chips taken from it; 0 when made without end, on the fly")
    licence: Text = Field(description="SPDX identifier, or words when there is none")
    attribution: Text = Field(description="What has to be said when weights made from it are shared")


class Training(Record):
    """Where the weights come from."""

    data: tuple[DataSource, ...] = Field(min_length=1, description="Every data set used, simulation included")
    seed: int = Field(ge=0, description="Seed of the run")
    recipe: dict[str, JsonValue] = Field(description="The whole recipe, as training read it")


class MetricRow(Record):
    """One measured figure beside what a simpler method reaches on the same chips."""

    dataset: Text = Field(description="Data set")
    split: Text = Field(description="Which part, and how it was held out")
    metric: Text = Field(description="Name with its convention, for example 'IoU water, pooled over pixels'")
    value: float = Field(description="The model's figure, in the metric's own unit")
    baseline_name: Text = Field(description="Name of the baseline, for example 'Otsu on VH'")
    baseline_value: float = Field(description="The baseline's figure on the same chips, in the same unit")
    n: int = Field(ge=1, description="Number of chips (or scenes) behind the figure")
    command: Text = Field(description="The command that measures it again")


class ParityRow(Record):
    """One comparison of an artifact with its reference on the same chips: of one batch, or of a set of chips."""

    case: Text = Field(description="Name of the chips: real or simulated, holes, sizes")
    output: Name = Field(description="Output of the graph that was compared")
    shape: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        description="Shape of the output, batch included; of a set of chips their number alone"
    )
    valid_pixels: int = Field(ge=0, description="Pixels (or chips) with an answer, over the whole batch")
    max_difference: float = Field(ge=0, description="Largest difference at a valid pixel, in the output's unit")
    flipped_pixels: int = Field(
        ge=0, description="Pixels (or chips) that are decided otherwise: across the threshold, or another band highest"
    )
    limit_difference: float | None = Field(
        default=None, gt=0, description="Largest difference allowed of an output in a unit of its own; null: as for all"
    )
    limit_flipped: float | None = Field(
        default=None, ge=0, le=1, description="Largest share of flips allowed of this output; null: as for all"
    )
    same_nan: bool = Field(description="NaN in exactly the same places")
    worst: Text | None = Field(
        default=None, description="Of a set: the chip with the largest share of flips; null: none flipped"
    )
    metric: Text | None = Field(default=None, description="What is known to be right, and how it is counted")
    change: float | None = Field(
        default=None, description="That figure less the reference's on the same chips, in its unit; null without truth"
    )


class Parity(Record):
    """An artifact's figures against its reference, and the limits that it had to keep."""

    reference: Text = Field(description="What it was compared with, for example 'torch' or 'fp32'")
    limit_difference: float = Field(gt=0, description="Largest difference allowed, in the output's unit")
    limit_flipped: float = Field(ge=0, le=1, description="Largest share of flipped valid pixels allowed")
    limit_change: float | None = Field(
        default=None, gt=0, description="Largest change of a figure allowed, either way; null: no truth was used"
    )
    rows: tuple[ParityRow, ...] = Field(min_length=1, description="One row per case")

    @property
    def max_difference(self) -> float:
        """Largest difference over all cases, outputs with a limit of their own left out."""
        return max((row.max_difference for row in self.rows if row.limit_difference is None), default=0.0)

    @property
    def flipped_fraction(self) -> float:
        """Share of the decisions of one output that changed, over all cases; of several outputs the largest share.

        Outputs with a limit of their own are left out.
        """
        own = {row.output for row in self.rows if row.limit_flipped is not None}
        return max((share for output, share in self.flipped_shares.items() if output not in own), default=0.0)

    @property
    def flipped_shares(self) -> dict[str, float]:
        """Share of the decisions of each output that changed, over all cases."""
        valid, flipped = Counter[str](), Counter[str]()
        for row in self.rows:
            valid[row.output] += row.valid_pixels
            flipped[row.output] += row.flipped_pixels
        return {output: flipped[output] / max(1, pixels) for output, pixels in valid.items()}

    @property
    def change(self) -> float:
        """The figure's change that is largest either way, over all rows with truth; 0 without any."""
        return max((row.change for row in self.rows if row.change is not None), key=abs, default=0.0)


class FileRecord(Record):
    """One file of the model's folder."""

    path: str = Field(description="Path inside the model's folder, with forward slashes")
    sha256: Sha256 = Field(description="SHA-256 of the file, hexadecimal")
    bytes: int = Field(ge=1, description="Size of the file, bytes")

    @model_validator(mode="after")
    def _stays_inside(self) -> Self:
        path = PurePosixPath(self.path)
        if path.is_absolute() or ".." in path.parts or "\\" in self.path or str(path) != self.path or not path.name:
            raise ValueError(f"path {self.path!r} has to be a plain path inside the model's folder")
        return self


class Artifact(FileRecord):
    """One graph of the model: same facts, one precision."""

    precision: Precision = Field(description="Precision of the arithmetic inside; inputs and outputs stay float32")
    opset: int = Field(ge=17, le=64, description="ONNX opset")
    parity: Parity = Field(description="How close it comes to its reference")
    layers: int | None = Field(default=None, ge=1, description="Weighted layers in all; null: none was converted")
    kept_fp32: tuple[Text, ...] = Field(
        default=(), description="Layers, and values by operator, inside that stayed in float32"
    )
    calibration_chips: tuple[Text, ...] = Field(
        default=(), description="Chips that ranges of activations were taken from; it was judged on others"
    )


class ModelFacts(Record):
    """What is known about a model before any graph is written."""

    name: Name = Field(description="Name in the repository")
    hazard: Hazard = Field(description="What the model judges")
    version: Version = Field(description="Semantic version: major when inputs or outputs change, minor when weights do")
    description: Text = Field(description="What it does, for whom, and where it fails")
    architecture: Architecture = Field(description="The network inside")
    inputs: tuple[TensorSpec, ...] = Field(min_length=1, description="Inputs of the graph, in order")
    outputs: tuple[TensorSpec, ...] = Field(min_length=1, description="Outputs of the graph, in order")
    chip_px: int = Field(ge=32, le=8192, description="Edge of the chip that the model was trained for, pixels")
    multiple_of: int = Field(ge=1, le=512, description="Free axes have to be a multiple of this, pixels")
    gsd_m: tuple[float, float] = Field(description="Smallest and largest ground sampling distance run as it is, metres")
    threshold: float = Field(gt=0, lt=1, description="Probability from which a pixel (or chip) counts, no unit")
    calibration: Calibration = Field(description="How logits became probabilities")
    licence: Text = Field(description="Licence of the weights, SPDX identifier")
    attribution: Text = Field(description="What has to be said when the weights or their products are shared")
    training: Training = Field(description="Where the weights come from")
    metrics: tuple[MetricRow, ...] = Field(min_length=1, description="Measured figures, each beside a baseline")

    @model_validator(mode="after")
    def _is_one_model(self) -> Self:
        for kind, specs in (("input", self.inputs), ("output", self.outputs)):
            names = [spec.name for spec in specs]
            if len(set(names)) != len(names):
                raise ValueError(f"two {kind}s share a name: {names}")
        if self.chip_px % self.multiple_of:
            raise ValueError(f"chip_px {self.chip_px} is no multiple of {self.multiple_of}")
        low, high = self.gsd_m
        if not 0 < low <= high:
            raise ValueError(f"gsd_m {self.gsd_m} has to be 0 < smallest <= largest")
        return self

    def to_metadata(self) -> dict[str, str]:
        """Return the facts as the string pairs of a graph's `metadata_props`: texts as they are, the rest as JSON."""
        facts = self.model_dump(mode="json")
        return {key: value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Self:
        """Return the facts that `to_metadata` wrote.

        Raises
        ------
        ValueError
            When a value is no JSON, or the facts are incomplete (pydantic's error is one, too).
        """
        texts = {name for name, field in cls.model_fields.items() if field.annotation in {str, Hazard}}
        return cls.model_validate(
            {key: value if key in texts else json.loads(value) for key, value in metadata.items()}
        )


class Manifest(ModelFacts):
    """Everything in `manifest.json`: the facts, the graphs and the other files of the folder."""

    artifacts: tuple[Artifact, ...] = Field(min_length=1, description="One row per precision")
    files: tuple[FileRecord, ...] = Field(description="Every other file of the folder, this manifest aside")

    @model_validator(mode="after")
    def _names_each_file_once(self) -> Self:
        paths = [row.path for row in (*self.artifacts, *self.files)]
        if len(set(paths)) != len(paths):
            raise ValueError(f"a file is listed twice: {paths}")
        precisions = [artifact.precision for artifact in self.artifacts]
        if len(set(precisions)) != len(precisions):
            raise ValueError(f"a precision is listed twice: {precisions}")
        return self

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """The precisions that exist, in the manifest's order."""
        return tuple(artifact.precision for artifact in self.artifacts)

    def to_json(self) -> str:
        """Return the text of `manifest.json`: indented, key order fixed, newline at the end."""
        return self.model_dump_json(indent=2) + "\n"
