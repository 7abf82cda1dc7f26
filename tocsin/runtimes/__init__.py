"""What runs a graph: one file a runtime behind one Protocol, and a fake that ships for tests and dry plumbing.

A runtime does exactly what was asked or raises `RuntimeUnavailableError`; it never falls back to another device or
precision.
"""

import os
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from tocsin.manifest import Precision

if TYPE_CHECKING:
    from tocsin.repository import Model

FloatArray = npt.NDArray[np.float32]
Device = Literal["cpu", "cuda"]


class RuntimeOptions(BaseModel):
    """How a graph is run. Defaults live here and nowhere else."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    runtime: str = Field(
        default="onnx",
        pattern=r"^(onnx|tensorrt|tensorrt-rtx|(grpcs?|http)://[^\s/:]+:\d+)$",
        description="onnx, tensorrt, tensorrt-rtx, grpc://HOST:PORT (grpcs: with TLS) or http://HOST:PORT",
    )
    device: Device = Field(default="cpu", description="cpu or cuda; what is not there is refused")
    precision: Precision = Field(default="fp32", description="which of the model's graphs")
    threads: int | None = Field(default=None, ge=1, le=1024, description="CPU threads; None: one per core")
    deadline_s: float = Field(default=120.0, gt=0, le=86_400, description="how long a server may be away, seconds")
    shared_memory: bool = Field(default=True, description="with a server on this machine, where a probe proves it")


class Runtime(Protocol):
    """A loaded graph. Safe to call from one thread at a time; the same input gives the same output."""

    @property
    def name(self) -> str:
        """What runs: onnx, fake, ..."""

    @property
    def device(self) -> str:
        """Where it really runs: cpu or cuda."""

    @property
    def precision(self) -> str:
        """Precision of the graph that was loaded."""

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Run one batch.

        Parameters
        ----------
        inputs : mapping of str to numpy.ndarray
            float32 [batch, band, row, col] by input name, raw units, NaN = missing.

        Returns
        -------
        dict of str to numpy.ndarray
            float32 [batch, ...] by output name, NaN where no input is valid.
        """

    def close(self) -> None:
        """Free what the runtime holds; calling it again does nothing."""

    def __enter__(self) -> Self:
        """Return the runtime, to be closed at the end of the block."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Close."""


def available_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def open_runtime(model: "Model", options: RuntimeOptions) -> Runtime:
    """Load a model's graph in the runtime that was asked for.

    Raises
    ------
    RuntimeUnavailableError
        The runtime or device is not there.
    ModelInvalidError
        The graph cannot be loaded.
    """
    if options.runtime == "onnx":
        from tocsin.runtimes.onnx import OnnxRuntime

        return OnnxRuntime(model.path, options)
    if "://" in options.runtime:
        from tocsin.runtimes.triton import TritonRuntime

        return TritonRuntime(model, options)
    from tocsin.runtimes.tensorrt import open_tensorrt

    return open_tensorrt(model, options)
