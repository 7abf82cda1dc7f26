"""ONNX Runtime on CPU or CUDA: deterministic, its memory bounded, no silent fallback."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

from tocsin.errors import ModelInvalidError, RuntimeUnavailableError, UsageError
from tocsin.runtimes import FloatArray, RuntimeOptions, available_cores

if TYPE_CHECKING:
    import onnxruntime

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
ERRORS_ONLY = 3


class OnnxRuntime:
    """One ONNX graph in one session.

    Parameters
    ----------
    path : pathlib.Path
        The graph.
    options : RuntimeOptions
        Device, precision and threads.

    Raises
    ------
    RuntimeUnavailableError
        onnxruntime is not installed, or the device is not there.
    ModelInvalidError
        The graph cannot be loaded.
    """

    name = "onnx"

    def __init__(self, path: Path, options: RuntimeOptions) -> None:
        self.device: str = options.device
        self.precision: str = options.precision
        self._session: onnxruntime.InferenceSession | None = _open_session(path, options)
        self._inputs = {item.name: (item.type, item.shape) for item in self._session.get_inputs()}
        self._outputs = [item.name for item in self._session.get_outputs()]
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map

    @property
    def shapes(self) -> tuple[dict[str, tuple[int | None, ...]], dict[str, tuple[int | None, ...]]]:
        """Axis sizes of inputs and of outputs by name, batch included; None where the caller chooses.

        Raises
        ------
        RuntimeUnavailableError
            The runtime was closed.
        """
        if self._session is None:
            raise RuntimeUnavailableError("a closed runtime", "an open one", "open it again")
        inputs, outputs = (
            {each.name: tuple(size if isinstance(size, int) else None for size in each.shape) for each in tensors}
            for tensors in (self._session.get_inputs(), self._session.get_outputs())
        )
        return inputs, outputs

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Run one batch; see `tocsin.runtimes.Runtime.run`.

        Raises
        ------
        UsageError
            Names or shapes are not the graph's.
        RuntimeUnavailableError
            The runtime was closed, or failed (out of memory, device lost).
        """
        if self._session is None:
            raise RuntimeUnavailableError("a closed runtime", "an open one", "open it again")
        if set(inputs) != set(self._inputs):
            raise UsageError(f"inputs {sorted(inputs)}", f"{sorted(self._inputs)}", "name them as the graph does")
        feed = {name: self._checked(name, value) for name, value in inputs.items()}
        from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

        try:
            results = self._session.run(self._outputs, feed)
        except InvalidArgument as error:
            raise UsageError(f"a batch that the graph refuses ({error})", "the graph's shapes", "check them") from error
        except RuntimeError as error:
            raise RuntimeUnavailableError(
                f"a batch on {self.device} that failed ({error})", "a result", "try a smaller batch or another device"
            ) from error
        return {name: np.asarray(result, dtype=np.float32) for name, result in zip(self._outputs, results, strict=True)}

    def _checked(self, name: str, value: FloatArray) -> FloatArray:
        shape = self._inputs[name][1]
        if value.ndim != len(shape) or any(
            isinstance(wanted, int) and wanted != given for wanted, given in zip(shape, value.shape, strict=True)
        ):
            raise UsageError(f"{name} of shape {value.shape}", f"shape {tuple(shape)}", "cut chips of that shape")
        return np.ascontiguousarray(value, dtype=np.float32)

    def close(self) -> None:
        """Free the session."""
        self._session = None

    def __enter__(self) -> Self:
        """Return the runtime."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Close."""
        self.close()


def _open_session(path: Path, options: RuntimeOptions) -> "onnxruntime.InferenceSession":
    try:
        import onnxruntime
    except ImportError as error:
        raise RuntimeUnavailableError(
            "runtime onnx without onnxruntime", "the package onnxruntime", "install tocsin[cpu] or tocsin[gpu]"
        ) from error
    provider = PROVIDERS[options.device]
    if provider not in onnxruntime.get_available_providers():
        raise RuntimeUnavailableError(
            f"device {options.device}; this onnxruntime has {onnxruntime.get_available_providers()}",
            provider,
            "install tocsin[gpu] on a machine with CUDA, or pass --device cpu",
        )
    try:
        session = onnxruntime.InferenceSession(str(path), session_options(options), providers=[provider])
    except Exception as error:  # onnxruntime raises a dozen unrelated types here; all mean that the graph cannot be run
        if options.device != "cpu":
            raise RuntimeUnavailableError(f"{path.name} on {options.device} ({error})", provider, "check it") from error
        raise ModelInvalidError(f"{path} ({error})", "an ONNX graph", "export the model again") from error
    if session.get_providers()[0] != provider:
        raise RuntimeUnavailableError(
            f"device {options.device}, but onnxruntime fell back to {session.get_providers()}",
            provider,
            "check the CUDA and cuDNN libraries, or pass --device cpu",
        )
    return session


def session_options(options: RuntimeOptions) -> "onnxruntime.SessionOptions":
    """Return the session options that every tocsin session uses.

    Threads sleep instead of spinning between operators: reading, blending and writing run on the same cores beside the
    graph.
    """
    import onnxruntime

    chosen = onnxruntime.SessionOptions()
    chosen.intra_op_num_threads = options.threads or available_cores()
    chosen.inter_op_num_threads = 1
    chosen.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    chosen.log_severity_level = ERRORS_ONLY
    chosen.use_deterministic_compute = True
    chosen.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return chosen
