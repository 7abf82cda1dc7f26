"""TensorRT and TensorRT for RTX: engines that `tocsin export engine` built, on a CUDA card.

Before an engine may answer, its identity is checked (graph, TensorRT, card, shapes) and it passes its exam: chips whose
answers ONNX Runtime gave in float32, missing data included. It never falls back to anything.
"""

import importlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Final, Self

import numpy as np

from tocsin.engines import Card, Engine, Flavour, find_engine, judge, state_folder
from tocsin.errors import ModelInvalidError, RuntimeUnavailableError, UsageError
from tocsin.repository import Model
from tocsin.runtimes import FloatArray, RuntimeOptions
from tocsin.runtimes.cuda import Cuda, CudaRuntime
from tocsin.runtimes.tensorrt_lane import Lane, TensorNames, byte_size

log = logging.getLogger(__name__)

FLAVOURS: Final[dict[str, Flavour]] = {"tensorrt": "datacenter", "tensorrt-rtx": "rtx"}
"""Flavour by name of the runtime."""
MODULES: Final[dict[Flavour, tuple[str, ...]]] = {
    "rtx": ("tensorrt_rtx",),
    # NVIDIA's containers have `tensorrt`; the wheel of bindings, for a system that has libnvinfer, the other.
    "datacenter": ("tensorrt", "tensorrt_bindings"),
}
EXTRAS: Final[dict[Flavour, str]] = {"rtx": "tensorrt-rtx", "datacenter": "tensorrt"}
LANES: Final = 2
"""Batches in flight: one is copied while another is computed."""


def load_tensorrt(flavour: Flavour) -> ModuleType:
    """Return the module of TensorRT.

    Raises
    ------
    RuntimeUnavailableError
        When it, or a library that it needs, is not there.
    """
    problems = []
    for name in MODULES[flavour]:
        try:
            return importlib.import_module(name)
        except (ImportError, OSError) as error:
            problems.append(f"{name}: {error}")
    raise RuntimeUnavailableError(
        f"TensorRT ({flavour}), which cannot be imported ({'; '.join(problems)})",
        "its Python module and its libraries",
        f"install tocsin[{EXTRAS[flavour]}]; docs/runbook.md says where the libraries come from",
    )


def collecting_logger(trt: ModuleType) -> Any:  # noqa: ANN401 - its base class is TensorRT's
    """Return a logger of TensorRT that keeps errors in the list `messages`, for the error that is raised later."""

    class Collecting(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.messages: list[str] = []

        def log(self, severity: Any, message: str) -> None:  # noqa: ANN401 - TensorRT's enumeration
            if severity in {trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR}:
                self.messages.append(message.strip())
            else:
                log.debug("%s", message.strip())

    return Collecting()


@dataclass(frozen=True)
class Surface:
    """What an engine runs on: the TensorRT module and CUDA. Tests give a fake of both."""

    trt: Any
    cuda: Cuda


def open_tensorrt(model: Model, options: RuntimeOptions) -> "TensorRTRuntime":
    """Find the engine of a model and load it.

    Raises
    ------
    RuntimeUnavailableError
        When TensorRT, a card or a fresh engine is not there.
    ModelInvalidError
        When an engine is broken, or fails its exam.
    """
    flavour = FLAVOURS[options.runtime]
    trt = load_tensorrt(flavour)
    surface = Surface(trt, CudaRuntime())
    engine = find_engine(model, flavour, trt.__version__, surface.cuda.card())
    return TensorRTRuntime(engine, model.path, surface)


class TensorRTRuntime:
    """One engine on one card.

    Parameters
    ----------
    engine : Engine
        What is loaded, its identity checked.
    graph : pathlib.Path
        Its graph, for the weights of a stripped plan.
    surface : Surface
        TensorRT and CUDA.

    Raises
    ------
    RuntimeUnavailableError
        When there is no card, or TensorRT refuses the plan.
    ModelInvalidError
        When a file is not the record's, or the engine fails its exam.
    """

    device = "cuda"

    def __init__(self, engine: Engine, graph: Path, surface: Surface) -> None:
        key = engine.record.key
        self.name = next(name for name, flavour in FLAVOURS.items() if flavour == key.flavour)
        self.precision: str = key.precision
        self._profile = {each.name: each for each in key.profile}
        self._lanes: list[Lane] = []
        self._cache: _RuntimeCache | None = None
        cuda = surface.cuda
        plan = deserialise(surface.trt, engine.plan(), version_compatible=key.version_compatible)
        if key.stripped:
            refit(surface.trt, plan, graph)
        if key.flavour == "rtx":
            self._cache = _RuntimeCache(plan, cache_path(engine, cuda.card()))
        try:
            names = _tensor_names(surface.trt, plan)
            for _ in range(LANES):
                self._lanes.append(self._lane(cuda, plan, names))
            self._sit(engine)
        except BaseException:
            self.close()
            raise

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Run one batch; see `tocsin.runtimes.Runtime.run`. One beyond the engine's largest is run in parts.

        Raises
        ------
        UsageError
            Names or shapes are not the engine's.
        RuntimeUnavailableError
            The runtime was closed, or failed (out of memory, card lost).
        """
        if not self._lanes:
            raise RuntimeUnavailableError("a closed runtime", "an open one", "open it again")
        feed = self._checked(inputs)
        results: list[dict[str, FloatArray]] = []
        busy: list[Lane] = []
        try:
            for number, part in enumerate(self._parts(feed)):
                if len(busy) == len(self._lanes):
                    results.append(busy.pop(0).receive())
                busy.append(self._lanes[number % len(self._lanes)])
                busy[-1].send(part)
            results += [busy.pop(0).receive() for _ in range(len(busy))]
        finally:
            for lane in busy:
                with suppress(RuntimeUnavailableError):
                    lane.settle()
        return {name: np.concatenate([each[name] for each in results]) for name in results[0]}

    def _lane(self, cuda: Cuda, plan: Any, names: TensorNames) -> Lane:  # noqa: ANN401 - TensorRT's type
        context = plan.create_execution_context(*([self._cache.config] if self._cache else []))
        if context is None:
            raise RuntimeUnavailableError(
                "a card without room for the engine", "more free memory on it", "end other programs on the card"
            )
        for name in names.inputs:
            context.set_input_shape(name, self._profile[name].largest)
        shapes = {name: tuple(context.get_tensor_shape(name)) for name in (*names.inputs, *names.outputs)}
        return Lane(cuda, context, names, {name: byte_size(shape) for name, shape in shapes.items()})

    def _checked(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        if set(inputs) != set(self._profile):
            raise UsageError(f"inputs {sorted(inputs)}", f"{sorted(self._profile)}", "name them as the graph does")
        if len({len(array) for array in inputs.values()}) != 1 or not len(next(iter(inputs.values()))):
            sizes = {name: array.shape for name, array in inputs.items()}
            raise UsageError(f"inputs of shapes {sizes}", "one batch size of at least 1", "give each chip every input")
        for name, array in inputs.items():
            allowed = self._profile[name]
            # The batch axis is left out: a larger batch is run in parts.
            axes = list(zip(allowed.smallest, array.shape, allowed.largest, strict=False))[1:]
            if array.ndim != len(allowed.largest) or not all(low <= size <= high for low, size, high in axes):
                raise UsageError(
                    f"{name} of shape {array.shape}",
                    f"shape {allowed.smallest} to {allowed.largest}, as the engine was built",
                    "cut chips of that shape",
                )
        return {name: np.ascontiguousarray(inputs[name], dtype=np.float32) for name in self._profile}

    def _parts(self, feed: Mapping[str, FloatArray]) -> Iterator[dict[str, FloatArray]]:
        """Yield batches of the size that the engine is tuned for, so that copying and computing overlap."""
        usual = min(each.usual[0] for each in self._profile.values())
        for start in range(0, len(next(iter(feed.values()))), usual):
            yield {name: array[start : start + usual] for name, array in feed.items()}

    def _sit(self, engine: Engine) -> None:
        """Give the exam's chips to the engine, and refuse it when an answer is wrong."""
        for number, case in enumerate(engine.exam()):
            wrong = judge(self.run(case.inputs), case.answers, engine.record.tolerances)
            if wrong:
                raise ModelInvalidError(
                    f"engine {engine.folder}, which failed its exam (chip {number}: {wrong})",
                    "the answers of ONNX Runtime, within the limits of its gate",
                    "do not use it on this card: pass --runtime onnx, and build the engine anew",
                )

    def close(self) -> None:
        """Free the card's memory, and keep what was compiled for the next run."""
        lanes, self._lanes = self._lanes, []
        for lane in lanes:
            lane.close()
        if lanes and self._cache is not None:
            self._cache.store()

    def __enter__(self) -> Self:
        """Return the runtime."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Close."""
        self.close()


def deserialise(trt: Any, plan: bytes, *, version_compatible: bool = False) -> Any:  # noqa: ANN401 - TensorRT's types
    """Return the engine of a plan.

    Raises
    ------
    RuntimeUnavailableError
        When TensorRT refuses it: no card, another card, another version.
    """
    logger = collecting_logger(trt)
    runtime = trt.Runtime(logger)
    if version_compatible:
        # Such a plan carries the code of the runtime that it was built with; its hash was checked before.
        runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise RuntimeUnavailableError(
            f"a plan that TensorRT {trt.__version__} refuses ({'; '.join(logger.messages) or 'no reason given'})",
            "a card and a version that it was built for",
            "check nvidia-smi, build it anew with tocsin export engine, or pass --runtime onnx",
        )
    return engine


def refit(trt: Any, engine: Any, graph: Path) -> None:  # noqa: ANN401 - TensorRT's types
    """Give a stripped plan the weights of its graph.

    Raises
    ------
    ModelInvalidError
        When a weight is missing or is refused.
    """
    logger = collecting_logger(trt)
    refitter = trt.Refitter(engine, logger)
    filled = trt.OnnxParserRefitter(refitter, logger).refit_from_file(str(graph))
    missing = refitter.get_missing_weights()
    if not filled or missing or not refitter.refit_cuda_engine():
        raise ModelInvalidError(
            f"a stripped plan and {graph} ({'; '.join(logger.messages) or f'without {missing}'})",
            "the graph that the plan was built from",
            "build the engine anew: tocsin export engine",
        )


def cache_path(engine: Engine, card: Card) -> Path:
    """Return the file of what TensorRT for RTX compiled for this engine on such a card."""
    return state_folder() / "rtx" / f"{engine.record.key.id}-{card.capability}.cache"


class _RuntimeCache:
    """Kernels that TensorRT for RTX compiled on the card, kept between runs."""

    def __init__(self, engine: Any, path: Path) -> None:  # noqa: ANN401 - TensorRT's types
        self._path = path
        self.config = engine.create_runtime_config()
        self._cache = self.config.create_runtime_cache()
        with suppress(OSError):
            # Of another card, driver or version it is refused and compiled again: it costs time, nothing else.
            if not self._cache.deserialize(path.read_bytes()):
                log.info("%s is of another card or driver and will be replaced", path)
        self.config.set_runtime_cache(self._cache)

    def store(self) -> None:
        """Write the cache; a folder that cannot be written costs the next start its time, and is logged."""
        aside = self._path.with_name(f".{self._path.name}.part")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            aside.write_bytes(bytes(self._cache.serialize()))
            aside.replace(self._path)
        except OSError as error:
            log.warning("%s was not written (%s): the next start compiles again", self._path, error.strerror)


def _tensor_names(trt: Any, engine: Any) -> TensorNames:  # noqa: ANN401 - TensorRT's types
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    other = [name for name in names if engine.get_tensor_dtype(name) != trt.DataType.FLOAT]
    if other:
        raise ModelInvalidError(f"an engine whose {other} is not float32", "float32 at the borders", "build it anew")
    given = tuple(name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT)
    return TensorNames(given, tuple(name for name in names if name not in given))
