"""A model's `config.pbtxt`: how a Triton server runs it, as protocol buffer text of `inference.ModelConfig`.

NVIDIA's own onnxruntime backend and the one that `tocsin triton` brings read the same file. Two parameters say what is
served, so that a client can refuse other weights: ``precision``, and ``graph_sha256`` of the graph file.
"""

from collections.abc import Sequence
from typing import Final

from tocsin.manifest import DYNAMIC, ModelFacts, Precision, TensorSpec

GRAPH_FILES: Final[dict[Precision, str]] = {"fp32": "model.onnx", "fp16": "model.fp16.onnx", "int8": "model.int8.onnx"}
MAX_BATCH: Final = 8
QUEUE_SIZE: Final = 64
"""Requests that may wait; a further one is refused at once, and its client tries again."""
QUEUE_TIMEOUT_US: Final = 30_000_000
"""How long a request may wait before it is refused, microseconds: the whole queue, at half a second a chip."""


def config_pbtxt(facts: ModelFacts, graph_sha256: str, precision: Precision = "fp32") -> str:
    """Return the configuration of a model whose graph runs on CPU.

    Parameters
    ----------
    facts
        Names and shapes of the tensors.
    graph_sha256
        SHA-256 of the graph file that is served, hexadecimal.
    precision
        Which of the model's graphs that is.
    """
    return (
        f'name: "{facts.name}"\n'
        'backend: "onnxruntime"\n'
        f'default_model_filename: "{GRAPH_FILES[precision]}"\n'
        f"max_batch_size: {MAX_BATCH}\n"
        f"input [\n{tensors(facts.inputs)}\n]\n"
        f"output [\n{tensors(facts.outputs)}\n]\n"
        "version_policy { latest { num_versions: 1 } }\n"
        "instance_group [ { count: 1 kind: KIND_CPU } ]\n"
        + served_as(precision, graph_sha256)
        + queue()
        + warmup(facts)
    )


def served_as(precision: Precision, graph_sha256: str) -> str:
    """Return the two parameters that a client compares with the manifest."""
    named = {"precision": precision, "graph_sha256": graph_sha256}
    return "".join(
        f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}\n' for key, value in named.items()
    )


def queue() -> str:
    """Return the rules of the queue: what waits is batched, nothing is held back to wait for more."""
    return (
        "dynamic_batching {\n"
        "  max_queue_delay_microseconds: 0\n"
        "  default_queue_policy {\n"
        "    timeout_action: REJECT\n"
        f"    default_timeout_microseconds: {QUEUE_TIMEOUT_US}\n"
        "    allow_timeout_override: true\n"
        f"    max_queue_size: {QUEUE_SIZE}\n"
        "  }\n"
        "}\n"
    )


def warmup(facts: ModelFacts) -> str:
    """Return the run of one chip that comes before the first request: it pays for what a first run allocates."""
    inputs = "".join(
        f'    inputs {{ key: "{spec.name}" value {{ data_type: TYPE_FP32 dims: [ {_chip(spec, facts.chip_px)} ] '
        "zero_data: true } }\n"
        for spec in facts.inputs
    )
    return f'model_warmup [\n  {{\n    name: "one chip"\n    batch_size: 1\n{inputs}  }}\n]\n'


def _chip(spec: TensorSpec, chip_px: int) -> str:
    return ", ".join(str(chip_px if size == DYNAMIC else size) for size in spec.shape)


def tensors(specs: Sequence[TensorSpec]) -> str:
    """Return the entries of `input` or `output`: names, type and shapes, the batch left out."""
    blocks = (
        f'  {{\n    name: "{spec.name}"\n    data_type: TYPE_FP32\n'
        f"    dims: [ {', '.join(map(str, spec.shape))} ]\n  }}"
        for spec in specs
    )
    return ",\n".join(blocks)
