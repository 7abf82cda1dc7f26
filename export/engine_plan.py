"""A graph becomes a TensorRT plan: parsed, read back, built. Both flavours of TensorRT run this code.

Networks are strongly typed: the graph says the type of every value, and TensorRT computes in it. No flag asks for half
precision (TensorRT 11 has none), so no version can ignore one; what was parsed is read back before it is built.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tocsin.engines import EngineKey, EnginePrecision, InputRange, LayerCount
from tocsin.errors import ModelInvalidError, RuntimeUnavailableError
from tocsin.manifest import DYNAMIC, ModelFacts
from tocsin.runtimes.tensorrt import collecting_logger

HEAVY: Final = frozenset({"CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY", "ATTENTION"})
"""Layers where the time goes."""
FLOATING: Final = frozenset({"FLOAT", "HALF", "BF16"})
LEAST_HALF: Final = 0.5
"""Share of the heavy layers that an FP16 engine computes in half precision, whatever was kept in float32."""
NAMED_NODES: Final = 5
HARDWARE_LEVELS: Final = {"ampere-plus": "AMPERE_PLUS", "same-capability": "SAME_COMPUTE_CAPABILITY"}


@dataclass(frozen=True)
class ParsedNetwork:
    """A network with what has to live as long as it: the parser owns its weights.

    Attributes
    ----------
    trt, logger, builder, parser, network
        TensorRT's module and objects.
    layers
        Precision, as read back.
    """

    trt: Any
    logger: Any
    builder: Any
    parser: Any
    network: Any
    layers: LayerCount


def parse(trt: Any, graph: bytes, precision: EnginePrecision, least_half: float = LEAST_HALF) -> ParsedNetwork:  # noqa: ANN401 - either TensorRT
    """Parse a graph and read its precision back.

    Parameters
    ----------
    trt
        Module of either TensorRT.
    graph
        Content of the ONNX file.
    precision
        What the graph has to be in.
    least_half
        Share of the heavy layers that has to be in half precision when that is fp16.

    Raises
    ------
    ModelInvalidError
        When an operator is not supported (each is named with its node), the bytes are no graph, or the precision that
        was read back is another.
    """
    logger = collecting_logger(trt)
    builder = trt.Builder(logger)
    # Needed up to TensorRT 10; accepted and without effect since 11, where every network is strongly typed.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph):
        raise ModelInvalidError(
            f"a graph that TensorRT {trt.__version__} cannot run: {_problems(parser)}",
            "operators that it has",
            "replace them in the network, or run the model with --runtime onnx",
        )
    layers = count_layers(network)
    _check_precision(layers, precision, least_half)
    return ParsedNetwork(trt, logger, builder, parser, network, layers)


def count_layers(network: Any) -> LayerCount:  # noqa: ANN401 - TensorRT's type
    """Return how many layers compute in which type."""
    types = list(_layer_types(network))
    heavy = [dtype for kind, dtype in types if kind in HEAVY]
    return LayerCount(
        floating=len(types),
        half=sum(dtype == "HALF" for _, dtype in types),
        heavy=len(heavy),
        heavy_half=sum(dtype == "HALF" for dtype in heavy),
    )


def input_ranges(facts: ModelFacts, max_batch: int) -> tuple[InputRange, ...]:
    """Return the shapes that an engine of this model takes: up to `max_batch` chips of up to the model's chip size."""
    ranges = []
    for spec in facts.inputs:
        least = tuple(facts.multiple_of if size == DYNAMIC else size for size in spec.shape)
        chip = tuple(facts.chip_px if size == DYNAMIC else size for size in spec.shape)
        # Half of the largest batch is the usual one: two of them are in flight.
        usual = max(1, max_batch // 2)
        ranges.append(
            InputRange(name=spec.name, smallest=(1, *least), usual=(usual, *chip), largest=(max_batch, *chip))
        )
    return tuple(ranges)


def build(parsed: ParsedNetwork, key: EngineKey, timing_cache: Path | None = None) -> bytes:
    """Return the plan.

    Parameters
    ----------
    parsed
        The network.
    key
        Cards, shapes and flags.
    timing_cache
        File of the measured times of kernels, read and written; None: none (TensorRT for RTX measures on the card).

    Raises
    ------
    RuntimeUnavailableError
        When TensorRT cannot build it here.
    """
    trt, config = parsed.trt, parsed.builder.create_builder_config()
    config.add_optimization_profile(_profile(parsed.builder, key.profile))
    # NaN is missing data: 0 * x must not become 0, nor x - x.
    config.set_flag(trt.BuilderFlag.STRICT_NANS)
    # What the graph calls float32 is computed in float32.
    config.clear_flag(trt.BuilderFlag.TF32)
    if key.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if key.stripped:
        # REFIT_IDENTICAL, which is implied: the weights come back as they were.
        config.set_flag(trt.BuilderFlag.STRIP_PLAN)
    if key.hardware != "exact":
        config.hardware_compatibility_level = getattr(trt.HardwareCompatibilityLevel, HARDWARE_LEVELS[key.hardware])
    if key.flavour == "rtx":
        _target(trt, config, key.capabilities)
    if timing_cache is not None:
        _read_times(config, timing_cache)
    plan = parsed.builder.build_serialized_network(parsed.network, config)
    if plan is None:
        hint = ", or build it without --strip-weights where there is no card" if key.stripped else ""
        raise RuntimeUnavailableError(
            f"a network that TensorRT {trt.__version__} did not build ({'; '.join(parsed.logger.messages)})",
            "a plan",
            f"check nvidia-smi, free memory on the card{hint}",
        )
    if timing_cache is not None:
        _write_times(config, timing_cache)
    return bytes(plan)


def _problems(parser: Any) -> str:  # noqa: ANN401 - TensorRT's type
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    nodes = [f"node {each.node_name()!r} ({each.node_operator()})" for each in errors if each.node_operator()]
    if not nodes:
        return "; ".join(each.desc() for each in errors) or "no reason given"
    more = f" and {len(nodes) - NAMED_NODES} more" if len(nodes) > NAMED_NODES else ""
    return ", ".join(nodes[:NAMED_NODES]) + more


def _layer_types(network: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - TensorRT's type
    """Yield (kind, type of the first result) of each layer whose result is a floating-point number."""
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        dtype = layer.get_output(0).dtype.name if layer.num_outputs else ""
        if dtype in FLOATING:
            yield layer.type.name, dtype


def _check_precision(layers: LayerCount, precision: EnginePrecision, least_half: float) -> None:
    given = f"a graph with {layers.heavy_half} of {layers.heavy} heavy layers in half precision"
    todo = "export the model again, and build from the graph of the precision asked for"
    if precision == "fp32" and layers.half:
        raise ModelInvalidError(f"{given}, {layers.half} of all", "none in an engine of fp32", todo)
    if precision == "fp16" and layers.half_share < least_half:
        raise ModelInvalidError(given, f"at least {least_half:.1%} in an engine of fp16", todo)


def _profile(builder: Any, ranges: Sequence[InputRange]) -> Any:  # noqa: ANN401 - TensorRT's types
    profile = builder.create_optimization_profile()
    for each in ranges:
        profile.set_shape(each.name, each.smallest, each.usual, each.largest)
    return profile


def _target(trt: Any, config: Any, capabilities: Sequence[str]) -> None:  # noqa: ANN401 - TensorRT's types
    known = trt.ComputeCapability.__members__
    names = [f"SM{capability.replace('.', '')}" for capability in capabilities]
    config.num_compute_capabilities = len(names)
    for index, name in enumerate(names):
        if name not in known or not config.set_compute_capability(known[name], index):
            raise RuntimeUnavailableError(
                f"compute capability {capabilities[index]}, which TensorRT for RTX {trt.__version__} cannot build for",
                f"some of {', '.join(sorted(each for each in known if each.startswith('SM')))}",
                "leave it out, or build with --flavour datacenter on that card",
            )


def _read_times(config: Any, path: Path) -> None:  # noqa: ANN401 - TensorRT's type
    times = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
    # A cache of another card or version is refused by TensorRT: everything is measured again.
    if not config.set_timing_cache(times, ignore_mismatch=False):
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def _write_times(config: Any, path: Path) -> None:  # noqa: ANN401 - TensorRT's type
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.part")
    aside.write_bytes(bytes(config.get_timing_cache().serialize()))
    aside.replace(path)
