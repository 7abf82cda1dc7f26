"""TensorRT engines on disk: what each was built from, for which cards, and whether it may be used here.

An engine is tied to its graph, its TensorRT and its card, so each lies in a folder of its own, named after its key::

    ENGINES/NAME/KEY/engine.json    the record below
    ENGINES/NAME/KEY/engine.plan    what TensorRT loads
    ENGINES/NAME/KEY/exam.npz       chips with the answers of ONNX Runtime, which the engine has to give, too

`tocsin export engine` writes them, `tocsin.runtimes.tensorrt` loads them. Nothing here imports TensorRT.
"""

import hashlib
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, StringConstraints, ValidationError

from tocsin.errors import ModelInvalidError, RuntimeUnavailableError
from tocsin.manifest import FileRecord, Name, Parity, Record, Sha256, Text
from tocsin.repository import Model

FloatArray = npt.NDArray[np.float32]
Flavour = Literal["rtx", "datacenter"]
EnginePrecision = Literal["fp32", "fp16"]
Hardware = Literal["exact", "ampere-plus", "same-capability"]
Capability = Annotated[str, StringConstraints(pattern=r"^\d{1,2}\.\d$")]

ENVIRONMENT: Final = "TOCSIN_ENGINES"
RECORD: Final = "engine.json"
PLAN: Final = "engine.plan"
EXAM: Final = "exam.npz"
KEY_DIGITS: Final = 16
AMPERE: Final = (8, 0)


class InputRange(Record):
    """Shapes of one input that an engine takes, batch first."""

    name: Name = Field(description="Input of the graph")
    smallest: tuple[int, ...] = Field(min_length=1, description="Smallest size of each axis")
    usual: tuple[int, ...] = Field(min_length=1, description="Sizes that the engine is tuned for")
    largest: tuple[int, ...] = Field(min_length=1, description="Largest size of each axis")


class EngineKey(Record):
    """What an engine depends on: another value of any field is another engine."""

    model: Name = Field(description="Model in the repository")
    graph_sha256: Sha256 = Field(description="SHA-256 of the graph that was parsed")
    precision: EnginePrecision = Field(description="Precision of that graph; a graph of float32 has none but its own")
    flavour: Flavour = Field(description="rtx: compiled on the card at load; datacenter: built for one kind of card")
    tensorrt: Text = Field(description="Version of TensorRT, or of TensorRT for RTX")
    capabilities: tuple[Capability, ...] = Field(min_length=1, description="CUDA compute capabilities it was built for")
    profile: tuple[InputRange, ...] = Field(min_length=1, description="Shapes of every input, in the graph's order")
    hardware: Hardware = Field(default="exact", description="Which other cards of the data centre may load it")
    version_compatible: bool = Field(default=False, description="Whether later versions of TensorRT may load it")
    stripped: bool = Field(default=False, description="Whether the weights are taken from the graph at load")

    @property
    def id(self) -> str:
        """Name of the engine's folder: the first digits of the hash of all fields."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:KEY_DIGITS]


class LayerCount(Record):
    """Layers by the type that they compute in, as read back from the parsed network."""

    floating: int = Field(ge=0, description="Layers whose result is a floating-point number")
    half: int = Field(ge=0, description="Of these, in half precision")
    heavy: int = Field(ge=0, description="Convolutions and matrix products, where the time goes")
    heavy_half: int = Field(ge=0, description="Of these, in half precision")

    @property
    def half_share(self) -> float:
        """Share of the convolutions and matrix products that are in half precision."""
        return self.heavy_half / self.heavy if self.heavy else 0.0


class EngineRecord(Record):
    """Everything in `engine.json`."""

    key: EngineKey = Field(description="What the engine depends on")
    layers: LayerCount = Field(description="Precision, as read back")
    plan: FileRecord = Field(description="The plan")
    exam: FileRecord = Field(description="Chips and answers")
    tolerances: dict[Name, Annotated[float, Field(gt=0)]] = Field(
        min_length=1, description="By how much each output may differ from the exam's answer, in its own unit"
    )
    parity: Parity | None = Field(description="Figures of the whole gate on a card; null: built without one")
    tocsin: Text = Field(description="Version of tocsin that built it")

    def to_json(self) -> str:
        """Return the text of `engine.json`."""
        return self.model_dump_json(indent=2) + "\n"


@dataclass(frozen=True)
class Engine:
    """One engine, found on disk."""

    folder: Path
    record: EngineRecord

    def plan(self) -> bytes:
        """Return the plan, hash checked.

        Raises
        ------
        ModelInvalidError
            When it is missing or is not the one that the record was written for.
        """
        return _read(self.folder, self.record.plan)

    def exam(self) -> tuple["ExamCase", ...]:
        """Return the chips with their answers, hash checked.

        Raises
        ------
        ModelInvalidError
            When they are missing or are not those that the record was written for.
        """
        return read_exam(_read(self.folder, self.record.exam))


@dataclass(frozen=True)
class Card:
    """A CUDA device as engines are matched with it.

    Attributes
    ----------
    name : str
        As the driver calls it.
    capability : str
        CUDA compute capability, for example 8.9.
    """

    name: str
    capability: str


def state_folder() -> Path:
    """Return the folder of caches: TOCSIN_STATE, else `tocsin` in the user's cache folder."""
    named = os.environ.get("TOCSIN_STATE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tocsin"


def engines_folder() -> Path:
    """Return the folder of engines: TOCSIN_ENGINES, else `engines` among the caches."""
    named = os.environ.get(ENVIRONMENT)
    return Path(named) if named else state_folder() / "engines"


def list_engines(name: str, folder: Path) -> Iterator[Engine]:
    """Yield the engines of model `name` in `folder`, sorted by key.

    Raises
    ------
    ModelInvalidError
        When a record is broken.
    """
    for path in sorted((folder / name).glob(f"[!.]*/{RECORD}")):
        try:
            yield Engine(path.parent, EngineRecord.model_validate_json(path.read_bytes()))
        except (OSError, ValidationError) as error:
            raise ModelInvalidError(
                f"{path}, which is no record of an engine ({error})",
                "what tocsin export engine writes",
                "build it anew",
            ) from error


def find_engine(model: Model, flavour: Flavour, version: str, card: Card, folder: Path | None = None) -> Engine:
    """Return the engine of `model` that this TensorRT may run on this card; of several, the one of the largest batch.

    Parameters
    ----------
    model
        Model in the precision asked for.
    flavour
        Which TensorRT.
    version
        Its version.
    card
        Where it shall run.
    folder
        Folder of engines; `engines_folder` when None.

    Raises
    ------
    RuntimeUnavailableError
        When there is none; the message says why each that is there is stale, and what to run.
    ModelInvalidError
        When a record is broken.
    """
    folder = engines_folder() if folder is None else folder
    name, precision = model.manifest.name, model.artifact.precision
    engines = [each for each in list_engines(name, folder) if each.record.key.flavour == flavour]
    same = [each for each in engines if each.record.key.precision == precision]
    if not same:
        others = ", ".join(sorted({each.record.key.precision for each in engines}))
        raise RuntimeUnavailableError(
            f"no engine of {name} in {precision} for {flavour} in {folder}" + (f", only in {others}" if others else ""),
            "one that tocsin export engine built",
            f"run {command(name, precision, flavour)}" + (f", or pass --precision {others}" if others else ""),
        )
    stale = {each.record.key.id: _why_stale(each.record.key, model, version, card) for each in same}
    fitting = [each for each in same if not stale[each.record.key.id]]
    if not fitting:
        reasons = "; ".join(f"{key}: {', '.join(why)}" for key, why in stale.items())
        raise RuntimeUnavailableError(
            f"stale engines of {name} in {folder / name} ({reasons})",
            f"one of graph {model.sha256[:12]}, TensorRT {version}, compute capability {card.capability}",
            f"run {command(name, precision, flavour)}",
        )
    return max(fitting, key=lambda each: each.record.key.profile[0].largest[0])


def command(name: str, precision: str, flavour: str) -> str:
    """Return the command that builds an engine."""
    return f"tocsin export engine {name} --precision {precision} --flavour {flavour}"


def runs_on(key: EngineKey, card: Card) -> bool:
    """Return whether the engine was built for such a card."""
    if key.hardware == "ampere-plus":
        major, minor = card.capability.split(".")
        return (int(major), int(minor)) >= AMPERE
    return card.capability in key.capabilities


def _why_stale(key: EngineKey, model: Model, version: str, card: Card) -> list[str]:
    reasons = []
    if key.graph_sha256 != model.sha256:
        reasons.append(f"of graph {key.graph_sha256[:12]}")
    if not _version_fits(key, version):
        reasons.append(f"of TensorRT {key.tensorrt}")
    if not runs_on(key, card):
        reasons.append(f"for compute capability {' '.join(key.capabilities)}")
    if not _profile_fits(key, model):
        reasons.append("for other shapes")
    return reasons


def _version_fits(key: EngineKey, version: str) -> bool:
    if key.version_compatible:
        return _numbers(version) >= _numbers(key.tensorrt)
    return key.tensorrt == version


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _profile_fits(key: EngineKey, model: Model) -> bool:
    """Return whether one chip of the model lies within the engine's shapes."""
    ranges = {each.name: each for each in key.profile}
    manifest = model.manifest
    if ranges.keys() != {spec.name for spec in manifest.inputs}:
        return False
    for spec in manifest.inputs:
        chip = (1, *(manifest.chip_px if size < 0 else size for size in spec.shape))
        each = ranges[spec.name]
        if len(chip) != len(each.largest):
            return False
        if not all(low <= size <= high for low, size, high in zip(each.smallest, chip, each.largest, strict=True)):
            return False
    return True


@dataclass(frozen=True)
class ExamCase:
    """One batch with its answer.

    Attributes
    ----------
    inputs : mapping of str to numpy.ndarray
        float32 [batch, ...] by input name, raw units, NaN = missing.
    answers : mapping of str to numpy.ndarray
        float32 [batch, ...] by output name: what ONNX Runtime made of it on CPU in float32.
    """

    inputs: Mapping[str, FloatArray]
    answers: Mapping[str, FloatArray]


def write_exam(cases: Iterable[ExamCase]) -> bytes:
    """Return the cases as the bytes of an .npz file, the same bytes for the same cases."""
    arrays: dict[str, FloatArray] = {}
    for number, case in enumerate(cases):
        for kind, named in (("in", case.inputs), ("out", case.answers)):
            arrays |= {f"{number}.{kind}.{name}": array for name, array in named.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def read_exam(content: bytes) -> tuple[ExamCase, ...]:
    """Return the cases that `write_exam` wrote."""
    cases: dict[int, dict[str, dict[str, FloatArray]]] = {}
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        for key in arrays.files:
            number, kind, name = key.split(".", maxsplit=2)
            cases.setdefault(int(number), {"in": {}, "out": {}})[kind][name] = arrays[key]
    return tuple(ExamCase(case["in"], case["out"]) for _, case in sorted(cases.items()))


def judge(given: Mapping[str, FloatArray], answers: Mapping[str, FloatArray], tolerances: Mapping[str, float]) -> str:
    """Return what is wrong with an engine's results, empty when nothing is.

    Parameters
    ----------
    given, answers
        float32 [batch, ...] by output name: the engine's, and those to reach.
    tolerances
        Largest difference by output name, in its own unit.
    """
    for name, wanted in answers.items():
        got = given[name]
        if got.shape != wanted.shape:
            return f"{name} of shape {got.shape}, not {wanted.shape}"
        if not np.array_equal(np.isnan(got), np.isnan(wanted)):
            return f"{name} with NaN in other places"
        apart = float(np.nanmax(np.abs(got.astype(np.float64) - wanted), initial=0.0))
        if apart > tolerances[name]:
            return f"{name} off by {apart:.3g}, more than {tolerances[name]:.3g}"
    return ""


def _read(folder: Path, row: FileRecord) -> bytes:
    path = folder / row.path
    todo = "build the engine anew: tocsin export engine"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelInvalidError(f"{path}, which cannot be read ({error.strerror})", "a file", todo) from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != row.sha256:
        raise ModelInvalidError(f"{path} with sha256 {digest}", f"sha256 {row.sha256}, as {RECORD} says", todo)
    return content
