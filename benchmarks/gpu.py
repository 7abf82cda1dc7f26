"""What a GPU is worth, in one run: parity and chips a second of every way to run each shipped model on it.

    python -m benchmarks.gpu [flood landslide volcano ...] [--batch 1 8] [--turns 9] [--data DIR]

PyTorch (eager in float32 and in half precision, compiled in half precision), ONNX Runtime on CUDA, TensorRT and
TensorRT for RTX, each from host memory to host memory and in turns in one process, so that whatever else the machine
does falls on all. Ratios are medians over the turns. Beside them stand two floors: what copying the chips to the card
and back takes at the bandwidth measured here, and what their multiplications take at the rate of a large matrix product
measured here. Parity of a graph or engine is against its FP32 graph in ONNX Runtime on CPU, by the limits of its gate;
PyTorch has random weights, its parity is against itself on CPU in float32. What is not installed is said, not left out.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from benchmarks.precision import NETWORKS, chips_of, in_turns
from export.engine import EngineOptions, build_engine, limits_of
from export.model import HAZARDS
from export.parity import ParityLimits, Runs, TorchReference, measure
from tocsin.errors import TocsinError
from tocsin.manifest import Manifest, Parity
from tocsin.repository import Model, list_models, load_model
from tocsin.runtimes import RuntimeOptions, open_runtime
from tocsin.runtimes.cuda import CudaRuntime
from tocsin.runtimes.tensorrt import FLAVOURS, Surface, TensorRTRuntime, load_tensorrt

Chips = Mapping[str, np.ndarray]
EAGER = "PyTorch eager fp32"
COPIED = 256 << 20
"""Bytes of the copy that measures bandwidth."""
MATRIX = 8192
"""Rows and columns of the product that measures arithmetic."""
PARITY_CASES = 6


class TorchOnCard:
    """A module on the card, from numpy to numpy; in half precision by autocast, as people run it."""

    name = "torch"

    def __init__(self, module: torch.nn.Module, manifest: Manifest, *, half: bool) -> None:
        self._module = module
        self._manifest = manifest
        self._half = half

    def run(self, inputs: Chips) -> dict[str, np.ndarray]:
        """Run one batch, copies included."""
        tensors = [
            torch.from_numpy(inputs[spec.name]).pin_memory().to("cuda", non_blocking=True)
            for spec in self._manifest.inputs
        ]
        with torch.inference_mode(), torch.autocast("cuda", torch.float16, enabled=self._half):
            results = self._module(*tensors)
        outputs = results if isinstance(results, tuple) else (results,)
        return {
            spec.name: value.float().cpu().numpy() for spec, value in zip(self._manifest.outputs, outputs, strict=False)
        }


@dataclass(frozen=True)
class Contender:
    """One way to run a model, what it is compared with, and by which limits."""

    runs: Runs
    reference: Runs
    limits: ParityLimits


def with_torch(model: Model) -> Iterator[tuple[str, Contender]]:
    """Yield PyTorch's ways, or nothing where this PyTorch has no CUDA."""
    manifest = model.manifest
    torch.manual_seed(0)
    reference = TorchReference(NETWORKS[manifest.hazard](manifest), manifest)
    limits = limits_of(model)
    if not torch.cuda.is_available():
        print(f"not available: PyTorch on CUDA, this is {torch.__version__}")
        return
    # Float32 means float32: no TF32.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.manual_seed(0)
    module = NETWORKS[manifest.hazard](manifest).eval().cuda()
    yield EAGER, Contender(TorchOnCard(module, manifest, half=False), reference, limits)
    yield "PyTorch eager fp16", Contender(TorchOnCard(module, manifest, half=True), reference, limits)
    compiled = torch.compile(module, dynamic=False)
    yield "PyTorch compiled fp16", Contender(TorchOnCard(compiled, manifest, half=True), reference, limits)


def with_onnx(name: str, repository: Path | None, reference: Runs, stack: ExitStack) -> Iterator[tuple[str, Contender]]:
    """Yield ONNX Runtime on CUDA for each precision of the GPU, or say why not."""
    for precision in ("fp32", "fp16"):
        label = f"ONNX Runtime CUDA {precision}"
        try:
            model = load_model(name, repository, precision)
            runtime = open_runtime(model, RuntimeOptions(device="cuda", precision=precision))
        except TocsinError as error:
            print(f"not available: {label}, {error.given}")
            continue
        yield label, Contender(stack.enter_context(runtime), reference, limits_of(model))


def with_tensorrt(
    name: str, repository: Path | None, reference: Runs, stack: ExitStack
) -> Iterator[tuple[str, Contender]]:
    """Yield an engine, built for this card, of each TensorRT and precision, or say why not."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tocsin-")))
    for runtime, flavour in FLAVOURS.items():
        for precision in ("fp32", "fp16"):
            label = f"{runtime} {precision}"
            try:
                trt, cuda = load_tensorrt(flavour), CudaRuntime()
                model = load_model(name, repository, precision)
                wanted = {"compute_capability": (cuda.card().capability,)} if flavour == "rtx" else {}
                options = EngineOptions(flavour=flavour, precision=precision, **wanted)
                engine = build_engine(model, folder, options, None, overwrite=True)
                opened = TensorRTRuntime(engine, model.path, Surface(trt, cuda))
            except TocsinError as error:
                print(f"not available: {label}, {error.given}")
                continue
            yield label, Contender(stack.enter_context(opened), reference, limits_of(model))


def compare(name: str, asked: argparse.Namespace, rates: dict[str, float]) -> None:
    """Print the tables of one model, one for each batch."""
    model = load_model(name, asked.model_repository)
    with ExitStack() as stack:
        reference = stack.enter_context(open_runtime(model, RuntimeOptions()))
        contenders = dict(with_torch(model))
        contenders |= dict(with_onnx(name, asked.model_repository, reference, stack))
        contenders |= dict(with_tensorrt(name, asked.model_repository, reference, stack))
        parities = {label: parity(each, model, asked.data) for label, each in contenders.items()}
        for batch in asked.batch:
            chips = chips_of(model.manifest, batch)
            timed = in_turns({label: each.runs.run for label, each in contenders.items()}, chips, asked.turns)
            # By the clock: the processor's own time says little of a card.
            seconds = {label: values[:, 0] for label, values in timed.items()}
            print(
                f"\n{name} {model.manifest.version}, {model.manifest.chip_px} px, batch {batch}, {asked.turns} turns\n"
            )
            for line in table(seconds, parities, batch):
                print(line)
            for line in floors(model, chips, rates):
                print(line)


def parity(contender: Contender, model: Model, data: Path | None) -> Parity:
    """Return the figures on a few of the gate's chips."""
    chips = (batch for number, batch in enumerate(HAZARDS[model.manifest.hazard].chips(data)) if number < PARITY_CASES)
    return measure(contender.reference, contender.runs, chips, model.manifest, contender.limits)


def table(seconds: Mapping[str, np.ndarray], parities: Mapping[str, Parity], batch: int) -> Iterator[str]:
    """Yield a Markdown table: a row for each way to run, the fastest turn, ratios and parity."""
    yield f"| runs | chips/s, best turn | x {EAGER} | largest difference (limit) | flipped (limit) | NaN |"
    yield "|---|---|---|---|---|---|"
    for label, values in seconds.items():
        figures = parities[label]
        ratio = f"{np.median(seconds[EAGER] / values):.2f}" if EAGER in seconds else "-"
        nan = "same" if all(row.same_nan for row in figures.rows) else "MOVED"
        yield (
            f"| {label} | {batch / values.min():.1f} | {ratio} "
            f"| {figures.max_difference:.2g} ({figures.limit_difference:.2g}) "
            f"| {figures.flipped_fraction:.4%} ({figures.limit_flipped:.4%}) | {nan} |"
        )


def floors(model: Model, chips: Chips, rates: Mapping[str, float]) -> Iterator[str]:
    """Yield what no way to run can be faster than, from rates measured on this card."""
    batch = len(next(iter(chips.values())))
    out = sum(
        4 * int(np.prod([model.manifest.chip_px if size < 0 else size for size in spec.shape]))
        for spec in model.manifest.outputs
    )
    moved = sum(array.nbytes for array in chips.values()) + batch * out
    most = batch * rates["copy"] / moved
    yield f"copies: {moved / 1e6:.2f} MB at {rates['copy'] / 1e9:.1f} GB/s, at most {most:.0f} chips/s"
    work = multiplications(onnx.load(model.path), {name: array.shape for name, array in chips.items()})
    for precision in ("fp32", "fp16"):
        if precision in rates:
            rate = rates[precision]
            yield (
                f"arithmetic in {precision}: {work / 1e9:.2f} GFLOP at {rate / 1e12:.1f} TFLOP/s, "
                f"at most {batch * rate / work:.0f} chips/s"
            )


def multiplications(graph: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> float:
    """Return the floating-point operations of convolutions and matrix products, two for each multiplication."""
    for value in graph.graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, shapes[value.name], strict=True):
            dim.dim_value = size
    inferred = onnx.shape_inference.infer_shapes(graph, data_prop=True).graph
    known = {each.name: numpy_helper.to_array(each).shape for each in inferred.initializer}
    for value in (*inferred.value_info, *inferred.output, *inferred.input):
        known[value.name] = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
    total = 0.0
    for node in inferred.node:
        if node.op_type in {"Conv", "MatMul", "Gemm"}:
            weight, result = known[node.input[1]], known[node.output[0]]
            turned = any(each.name == "transB" and each.i for each in node.attribute)
            # A convolution's weight is [out, in / groups, ...], a product's [..., in, out].
            inner = np.prod(weight[1:]) if node.op_type == "Conv" or turned else weight[-2]
            total += 2.0 * float(np.prod(result)) * float(inner)
    return total


def measure_rates(cuda: CudaRuntime) -> dict[str, float]:
    """Return bytes a second to the card and back, and operations a second by precision where PyTorch has CUDA."""
    stream, address, block = cuda.stream(), cuda.allocate(COPIED), cuda.pinned(COPIED)

    def copy() -> None:
        cuda.upload(address, block, stream)
        cuda.download(block, address, stream)
        cuda.wait(stream)

    rates = {"copy": 2 * COPIED / fastest(copy)}
    cuda.free(stream, [address], [block])
    if torch.cuda.is_available():
        torch.backends.cuda.matmul.allow_tf32 = False
        for precision, dtype in (("fp32", torch.float32), ("fp16", torch.float16)):
            square = torch.ones((MATRIX, MATRIX), dtype=dtype, device="cuda")

            def multiply(square: torch.Tensor = square) -> None:
                torch.matmul(square, square)
                torch.cuda.synchronize()

            rates[precision] = 2.0 * MATRIX**3 / fastest(multiply)
    return rates


def fastest(action: Callable[[], None], times: int = 10) -> float:
    """Return the seconds of the fastest of several runs, after one that does not count."""
    action()
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def main() -> None:
    """Measure every model that was named, all by default; without a card, say so and fail."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=None)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--data", type=Path, default=None, help="folder of the data sets, for parity on real chips")
    parser.add_argument("--model-repository", type=Path, default=None)
    asked = parser.parse_args()
    try:
        cuda = CudaRuntime()
    except TocsinError as error:
        sys.exit(f"benchmarks.gpu needs a GPU: {error}")
    print(f"{cuda.card().name}, compute capability {cuda.card().capability}, PyTorch {torch.__version__}")
    rates = measure_rates(cuda)
    for name in asked.models or list_models(asked.model_repository):
        compare(name, asked, rates)


if __name__ == "__main__":
    main()
