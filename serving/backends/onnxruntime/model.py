"""Triton's Python-based backend `onnxruntime`: runs what a `config.pbtxt` for NVIDIA's backend of that name describes.

It runs inside a process that the server starts for each model instance, with the same session as in-process scoring.
Every sample of a batch is run alone, so that a result never depends on what else was waiting.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import triton_python_backend_utils as triton

from tocsin.errors import ModelInvalidError, TocsinError, UsageError
from tocsin.manifest import DYNAMIC
from tocsin.runtimes import FloatArray, RuntimeOptions, available_cores
from tocsin.runtimes.onnx import OnnxRuntime

DEFAULT_MAX_BATCH: Final = 4
"""Of a configuration that states none, as in NVIDIA's backend."""
MOST_PX: Final = 2048
"""Longest free axis: activations of a longer one would not fit into memory, and the kernel would end the process."""


class TritonPythonModel:
    """One instance of one model; the server calls the four methods by their names."""

    @staticmethod
    def auto_complete_config(config: Any) -> Any:  # noqa: ANN401 - a class that only the server has
        """Fill in from the graph what the configuration leaves out: tensors and batching."""
        stated = config.as_dict()
        if stated["input"] and stated["output"] and stated["max_batch_size"]:
            return config
        with OnnxRuntime(_graph_of_this_process(), RuntimeOptions(threads=1)) as runtime:
            inputs, outputs = runtime.shapes
        for shapes, add in ((inputs, config.add_input), (outputs, config.add_output)):
            for name, shape in shapes.items():
                dims = [DYNAMIC if size is None else size for size in shape[1:]]
                add({"name": name, "data_type": "TYPE_FP32", "dims": dims})
        config.set_max_batch_size(stated["max_batch_size"] or DEFAULT_MAX_BATCH)
        config.set_dynamic_batching()
        return config

    def initialize(self, args: Mapping[str, str]) -> None:
        """Open the graph that the configuration names, after comparing its hash with the stated one."""
        config = json.loads(args["model_config"])
        path = Path(args["model_repository"]) / args["model_version"] / config["default_model_filename"]
        try:
            _check_hash(path, config["parameters"].get("graph_sha256", {}).get("string_value"))
            device = "cuda" if args["model_instance_kind"] == "GPU" else "cpu"
            options = RuntimeOptions(device=device, threads=_threads(config["instance_group"]))
            self._runtime = OnnxRuntime(path, options)
        except TocsinError as error:
            raise triton.TritonModelException(str(error)) from None
        self._multiple_of = int(self._runtime.metadata.get("multiple_of", 1))

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer each request by itself."""
        return [self._answer(request) for request in requests]

    def finalize(self) -> None:
        """Free the graph."""
        self._runtime.close()

    def _answer(self, request: Any) -> Any:  # noqa: ANN401 - classes that only the server has
        try:
            outputs = self._run({tensor.name(): tensor.as_numpy() for tensor in request.inputs()})
            wanted = set(request.requested_output_names()) or set(outputs)
            tensors = [triton.Tensor(name, value) for name, value in outputs.items() if name in wanted]
            return triton.InferenceResponse(output_tensors=tensors)
        except UsageError as error:
            return _refusal(str(error), triton.TritonError.INVALID_ARG)
        except TocsinError as error:
            return _refusal(str(error), triton.TritonError.INTERNAL)
        except Exception as error:  # noqa: BLE001 - the process border: a client gets one line, never a traceback
            return _refusal(f"{type(error).__name__}: {error}".partition("\n")[0], triton.TritonError.INTERNAL)

    def _run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Run each sample of a batch alone, and put the results together."""
        for name, value in inputs.items():
            self._check_axes(name, value.shape)
        (batch,) = {len(value) for value in inputs.values()}
        each = [self._runtime.run({name: value[k : k + 1] for name, value in inputs.items()}) for k in range(batch)]
        return each[0] if batch == 1 else {name: np.concatenate([one[name] for one in each]) for name in each[0]}

    def _check_axes(self, name: str, shape: tuple[int, ...]) -> None:
        if len(shape) < 4:
            return
        for size in shape[-2:]:
            if size % self._multiple_of or not 0 < size <= MOST_PX:
                raise UsageError(
                    f"{name} of shape {shape}",
                    f"rows and columns that are multiples of {self._multiple_of}, at most {MOST_PX}",
                    "cut chips of that size",
                )


def _graph_of_this_process() -> Path:
    """Return the graph that the server started this process for: its first argument.

    The interface says nothing of the path while a configuration is completed.
    """
    return Path(Path("/proc/self/cmdline").read_bytes().split(b"\0")[1].decode())


def _check_hash(path: Path, stated: str | None) -> None:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelInvalidError(
            f"{path}, which cannot be read ({error.strerror})", "a graph", "export it again"
        ) from error
    if stated not in {None, digest}:
        raise ModelInvalidError(
            f"{path} with sha256 {digest}", f"sha256 {stated}, as config.pbtxt says", "export the model again"
        )


def _threads(groups: Sequence[Mapping[str, Any]]) -> int:
    """Return the threads of one instance: those asked for, else its share of the cores."""
    asked = os.environ.get("TOCSIN_THREADS")
    return int(asked) if asked else max(1, available_cores() // max(1, sum(group["count"] for group in groups)))


def _refusal(message: str, code: int) -> Any:  # noqa: ANN401 - a class that only the server has
    return triton.InferenceResponse(output_tensors=[], error=triton.TritonError(message, code))
