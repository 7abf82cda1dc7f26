"""`tocsin export engine`: a model's graph becomes an engine that may be used, written whole or not at all.

Both flavours do the same: parse and read the precision back, build, add the exam. TensorRT for RTX builds for every
card without having one. TensorRT of the data centre needs the card that it builds for. Where there is a card, the
engine also passes export's gate on it, against ONNX Runtime, before it is written.
"""

import errno
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

import tocsin
from export.engine_plan import LEAST_HALF, build, input_ranges, parse
from export.model import HAZARDS
from export.parity import FloatArray, OutputLimits, ParityChips, ParityLimits, check, measure
from export.repository import file_record, put
from export.triton_config import MAX_BATCH
from tocsin.engines import (
    EXAM,
    PLAN,
    RECORD,
    Capability,
    Engine,
    EngineKey,
    EnginePrecision,
    EngineRecord,
    ExamCase,
    Flavour,
    Hardware,
    InputRange,
    runs_on,
    state_folder,
    write_exam,
)
from tocsin.errors import ProductExistsError, RuntimeUnavailableError, StorageFullError, UsageError
from tocsin.manifest import Parity
from tocsin.repository import Model
from tocsin.runtimes import RuntimeOptions
from tocsin.runtimes.cuda import Cuda, CudaRuntime
from tocsin.runtimes.onnx import OnnxRuntime
from tocsin.runtimes.tensorrt import Surface, TensorRTRuntime, load_tensorrt

RTX_CAPABILITIES: Final = ("8.0", "8.6", "8.9", "12.0", "12.1")
"""Ampere, Ada and Blackwell; Turing (7.5) when asked for, as it costs the others speed."""
EXAM_BYTES: Final = 4 << 20
"""Of the exam's inputs: a few chips of every kind that parity is measured on, smallest first."""


class EngineOptions(BaseModel):
    """How an engine is built. Defaults live here and nowhere else."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    precision: EnginePrecision = Field(default="fp16", description="which of the model's graphs")
    flavour: Flavour = Field(default="rtx", description="rtx, or datacenter")
    max_batch: int = Field(default=MAX_BATCH, ge=1, le=256, description="chips of one run, at most")
    compute_capability: tuple[Capability, ...] = Field(
        default=(), description="compute capabilities, rtx only; empty: every one from Ampere on"
    )
    hardware: Hardware = Field(default="exact", description="other cards that may load it, datacenter only")
    version_compatible: bool = Field(default=False, description="whether later versions of TensorRT may load it")
    strip_weights: bool = Field(default=False, description="plan without weights: they are read from the graph")


def build_engine(model: Model, out: Path, options: EngineOptions, data: Path | None, *, overwrite: bool) -> Engine:
    """Build the engine of a model.

    Parameters
    ----------
    model
        In the precision of the options.
    out
        Folder of engines; made when missing.
    options
        What to build.
    data
        Folder of the data sets for the gate on a card, or None.
    overwrite
        Whether an engine of the same key is replaced.

    Raises
    ------
    UsageError
        When the options do not go together.
    RuntimeUnavailableError
        When TensorRT is not there, or no card although the engine needs one.
    ModelInvalidError
        When the graph cannot be parsed, has another precision, or the engine is over a limit of the gate.
    ProductExistsError
        When the engine exists and `overwrite` is False.
    """
    _refuse_mixed(options)
    trt = load_tensorrt(options.flavour)
    cuda = _cuda(options)
    key = _key(model, options, trt.__version__, cuda)
    target = out / key.model / key.id
    if target.exists() and not overwrite:
        raise ProductExistsError(
            f"engine {target}, which exists", "a key that is free", "pass --overwrite to replace it"
        )
    parsed = parse(trt, model.path.read_bytes(), options.precision, least_half(model))
    plan, exam = build(parsed, key, _timing_cache(key)), write_exam(exam_cases(model, key.profile))
    record = EngineRecord(
        key=key,
        layers=parsed.layers,
        plan=file_record(PLAN, plan),
        exam=file_record(EXAM, exam),
        tolerances=tolerances(model),
        parity=None,
        tocsin=tocsin.__version__,
    )
    aside = out / key.model / f".tocsin-{secrets.token_hex(4)}.part"
    try:
        aside.mkdir(parents=True)
        (aside / PLAN).write_bytes(plan)
        (aside / EXAM).write_bytes(exam)
        if cuda is not None and runs_on(key, cuda.card()):
            figures = gate(Engine(aside, record), model, Surface(trt, cuda), data)
            record = record.model_copy(update={"parity": figures})
        (aside / RECORD).write_text(record.to_json(), encoding="utf-8")
        put(aside, target)
    except OSError as error:
        given = f"folder {out}, which cannot be written ({error.strerror})"
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise StorageFullError(given, "room for the engine", "free some space") from error
        raise UsageError(given, "a folder that this user may write", "give another --out") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return Engine(target, record)


def gate(engine: Engine, model: Model, surface: Surface, data: Path | None) -> Parity:
    """Run the engine on this card and ONNX Runtime on CPU in float32 on the same chips, and return the figures.

    Raises
    ------
    ModelInvalidError
        When the engine is over a limit, or fails its exam.
    """
    limits = limits_of(model)
    chips = _chips(model, engine.record.key.profile, data)
    with TensorRTRuntime(engine, model.path, surface) as candidate, OnnxRuntime(*_reference(model)) as reference:
        parity = measure(reference, candidate, chips, model.manifest, limits)
    check(parity, f"engine of {model.manifest.name} on {surface.cuda.card().name}")
    return parity


def limits_of(model: Model) -> ParityLimits:
    """Return the limits that the graph of this precision had to keep: its engine has to keep them, too."""
    own, parity = HAZARDS[model.manifest.hazard].LIMITS, model.artifact.parity
    outputs = {
        row.output: own.outputs.get(row.output, OutputLimits()).model_copy(
            update={"difference": row.limit_difference, "flipped": row.limit_flipped}
        )
        for row in parity.rows
    }
    return ParityLimits(difference=parity.limit_difference, flipped=parity.limit_flipped, outputs=outputs)


def tolerances(model: Model) -> dict[str, float]:
    """Return by how much each output may be off in the exam."""
    limits = limits_of(model)
    own = {name: each.difference for name, each in limits.outputs.items()}
    return {spec.name: own.get(spec.name) or limits.difference for spec in model.manifest.outputs}


def least_half(model: Model) -> float:
    """Return the share of heavy layers that has to be in half precision: all that the gate did not keep in float32."""
    artifact = model.artifact
    if artifact.layers is None:
        return LEAST_HALF
    return max(LEAST_HALF, (artifact.layers - len(artifact.kept_fp32)) / artifact.layers)


def exam_cases(model: Model, profile: Sequence[InputRange]) -> list[ExamCase]:
    """Return small chips of every kind that parity is measured on, with the answers of ONNX Runtime in float32."""
    batches = sorted(_chips(model, profile, None), key=lambda each: _size(each.inputs))
    cases: list[ExamCase] = []
    size = 0
    with OnnxRuntime(*_reference(model)) as runtime:
        for batch in batches:
            size += _size(batch.inputs)
            if cases and size > EXAM_BYTES:
                break
            cases.append(ExamCase(batch.inputs, runtime.run(batch.inputs)))
    return cases


def _chips(model: Model, profile: Sequence[InputRange], data: Path | None) -> Iterator[ParityChips]:
    """Yield the hazard's parity chips that the engine takes, one at a time."""
    for batch in HAZARDS[model.manifest.hazard].chips(data):
        if all(_within(batch.inputs[each.name].shape, each) for each in profile):
            yield batch


def _within(shape: Sequence[int], allowed: InputRange) -> bool:
    """Return whether chips of that shape are taken; a batch of any size is."""
    axes = zip(allowed.smallest[1:], shape[1:], allowed.largest[1:], strict=True)
    return all(low <= size <= high for low, size, high in axes)


def _reference(model: Model) -> tuple[Path, RuntimeOptions]:
    """Return the graph in float32 and how it runs."""
    manifest = model.manifest
    artifact = next(row for row in manifest.artifacts if row.precision == "fp32")
    return model.folder / artifact.path, RuntimeOptions()


def _size(inputs: Mapping[str, FloatArray]) -> int:
    return sum(array.nbytes for array in inputs.values())


def _refuse_mixed(options: EngineOptions) -> None:
    asked = {
        "--hardware": options.hardware != "exact",
        "--version-compatible": options.version_compatible,
    }
    given = [name for name, is_asked in asked.items() if is_asked]
    if options.flavour == "rtx" and given:
        raise UsageError(f"{', '.join(given)} with --flavour rtx", "options of datacenter", "leave them out")
    if options.flavour == "datacenter" and options.compute_capability:
        raise UsageError(
            "--compute-capability with --flavour datacenter", "an option of rtx", "build on the card that it is for"
        )


def _cuda(options: EngineOptions) -> Cuda | None:
    """Return CUDA; None without a card when the engine can be built without one."""
    if options.flavour == "datacenter":
        return CudaRuntime()
    try:
        return CudaRuntime()
    except RuntimeUnavailableError:
        return None


def _key(model: Model, options: EngineOptions, version: str, cuda: Cuda | None) -> EngineKey:
    if options.flavour == "rtx":
        capabilities = options.compute_capability or RTX_CAPABILITIES
    else:
        assert cuda is not None, "an engine of the data centre is built on a card"
        capabilities = (cuda.card().capability,)
    return EngineKey(
        model=model.manifest.name,
        graph_sha256=model.sha256,
        precision=options.precision,
        flavour=options.flavour,
        tensorrt=version,
        capabilities=capabilities,
        profile=input_ranges(model.manifest, options.max_batch),
        hardware=options.hardware,
        version_compatible=options.version_compatible,
        stripped=options.strip_weights,
    )


def _timing_cache(key: EngineKey) -> Path | None:
    """Return the file of measured times of kernels; TensorRT for RTX measures none while it builds."""
    if key.flavour == "rtx":
        return None
    return state_folder() / "timing" / f"{key.tensorrt}-{key.capabilities[0]}.cache"
