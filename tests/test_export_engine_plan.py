"""Graphs become plans: with the real TensorRT for RTX, and with a fake builder what needs the data centre's."""

import contextlib
from types import SimpleNamespace

import pytest

from export.engine_plan import build, count_layers, input_ranges, parse
from tocsin.engines import EngineKey
from tocsin.errors import ModelInvalidError, RuntimeUnavailableError
from tocsin.repository import list_models, load_model, read_manifest


@pytest.fixture(scope="module")
def rtx():
    """Return TensorRT for RTX."""
    return pytest.importorskip("tensorrt_rtx", reason="needs the extra tensorrt-rtx")


def key_of(**changes):
    """Return the key of an engine of the small model, for one kind of card."""
    key = {
        "model": "flood",
        "graph_sha256": "0" * 64,
        "precision": "fp16",
        "flavour": "rtx",
        "tensorrt": "1.7.1.116",
        "capabilities": ("8.9",),
        "profile": ({"name": "s1", "smallest": (1, 2, 32, 32), "usual": (2, 2, 64, 64), "largest": (8, 2, 64, 64)},),
    }
    return EngineKey.model_validate(key | changes)


def test_precision_is_read_back(rtx, make_convolving_graph) -> None:
    """Of the FP16 graph both convolutions are half, of the FP32 graph nothing is; mask and probability stay float32."""
    half = parse(rtx, make_convolving_graph(), "fp16").layers
    assert (half.heavy, half.heavy_half, half.half_share) == (2, 2, 1.0)
    assert half.heavy_half < half.half < half.floating
    full = parse(rtx, make_convolving_graph(half=False), "fp32").layers
    assert (full.heavy, full.heavy_half, full.half) == (2, 0, 0)


def test_another_precision_is_refused(rtx, make_convolving_graph) -> None:
    """An FP32 graph never becomes an FP16 engine in silence, nor the other way round; what the gate kept is allowed."""
    with pytest.raises(ModelInvalidError, match="0 of 2 heavy layers in half"):
        parse(rtx, make_convolving_graph(half=False), "fp16")
    with pytest.raises(ModelInvalidError, match="2 of 2 heavy layers in half"):
        parse(rtx, make_convolving_graph(), "fp32")
    assert parse(rtx, make_convolving_graph(), "fp16", least_half=1.0).layers.half_share == 1.0


def test_unsupported_operators_are_named_with_their_nodes(rtx, make_convolving_graph) -> None:
    """Every node that TensorRT lacks is in the message, with its operator."""
    with pytest.raises(ModelInvalidError) as caught:
        parse(rtx, make_convolving_graph(odd=("Bernoulli", "Det")), "fp16")
    assert "node 'odd0' (Bernoulli), node 'odd1' (Det)" in caught.value.given
    assert "--runtime onnx" in caught.value.todo


def test_what_is_no_graph_is_refused(rtx) -> None:
    """Bytes that are no graph are an invalid model, with the parser's reason."""
    with pytest.raises(ModelInvalidError, match="Failed to parse the ONNX model"):
        parse(rtx, b"no graph", "fp16")


def test_builds_without_a_card(rtx, rtx_plan, make_convolving_graph) -> None:
    """A machine without a card builds for Ada, and for Turing when asked: another plan."""
    turing = build(parse(rtx, make_convolving_graph(), "fp16"), key_of(capabilities=("7.5",)))
    assert b"trt" in rtx_plan[:4]
    assert b"trt" in turing[:4]
    assert turing != rtx_plan


def test_a_card_that_it_cannot_build_for_is_refused(rtx, make_convolving_graph) -> None:
    """Hopper is on no list of TensorRT for RTX: the message says which cards are."""
    parsed = parse(rtx, make_convolving_graph(), "fp16")
    with pytest.raises(RuntimeUnavailableError, match=r"compute capability 9\.0") as caught:
        build(parsed, key_of(capabilities=("8.9", "9.0")))
    assert "SM89" in caught.value.expected


def test_stripping_needs_a_card(rtx, make_convolving_graph) -> None:
    """Without a card this TensorRT for RTX refuses to build a plan without weights: that is said, with the way out."""
    with contextlib.suppress(RuntimeUnavailableError):
        from tocsin.runtimes.cuda import CudaRuntime

        CudaRuntime()
        pytest.skip("this machine has a card")
    parsed = parse(rtx, make_convolving_graph(), "fp16")
    with pytest.raises(RuntimeUnavailableError, match="did not build") as caught:
        build(parsed, key_of(stripped=True))
    assert "without --strip-weights" in caught.value.todo


@pytest.mark.parametrize("name", list_models())
def test_shapes_come_from_the_manifest(name) -> None:
    """Every shipped model's inputs get shapes of one to eight chips; only the axes that the caller chooses vary."""
    manifest = read_manifest(name)
    for spec, each in zip(manifest.inputs, input_ranges(manifest, 8), strict=True):
        assert each.name == spec.name
        assert (each.smallest[0], each.usual[0], each.largest[0]) == (1, 4, 8)
        for size, low, usual, high in zip(spec.shape, each.smallest[1:], each.usual[1:], each.largest[1:], strict=True):
            free = (manifest.multiple_of, manifest.chip_px, manifest.chip_px)
            assert (low, usual, high) == (free if size < 0 else (size, size, size))
    assert [each.usual[0] for each in input_ranges(manifest, 1)] == [1] * len(manifest.inputs)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", list_models())
def test_every_shipped_graph_parses(rtx, name, precision) -> None:
    """Every shipped graph of fp32 and fp16 has operators that TensorRT has, and the precision that it says."""
    from export.engine import least_half

    manifest = read_manifest(name)
    if precision not in manifest.precisions:
        pytest.skip(f"{name} has no {precision}")
    model = load_model(name, precision=precision)
    layers = parse(rtx, model.path.read_bytes(), precision, least_half(model)).layers
    assert layers.heavy > 0
    assert (layers.half_share > 0) is (precision == "fp16")


class FakeConfig:
    """A builder's configuration that remembers what it was told."""

    def __init__(self, log):
        self.log = log

    def __getattr__(self, name):
        return lambda *values, **named: self.log.append((name, *values, *named.values()))

    def __setattr__(self, name, value):
        if name != "log":
            self.log.append((name, value))
        object.__setattr__(self, name, value)

    def create_timing_cache(self, blob):
        """Return a cache that knows what it was read from."""
        return SimpleNamespace(blob=blob)

    def set_timing_cache(self, cache, *, ignore_mismatch):
        """Refuse a cache of another card."""
        self.log.append(("set_timing_cache", cache.blob, ignore_mismatch))
        return cache.blob != b"of another card"

    def get_timing_cache(self):
        """Return the cache with new times."""
        return SimpleNamespace(serialize=lambda: b"times")


class Named(SimpleNamespace):
    """An enumeration whose members are their names."""

    def __getattr__(self, name):
        return name


@pytest.fixture
def datacenter():
    """Return a fake TensorRT of the data centre that parses two half convolutions, and the log of its calls."""
    log = []
    half = SimpleNamespace(
        num_outputs=1,
        get_output=lambda _: SimpleNamespace(dtype=SimpleNamespace(name="HALF")),
        type=SimpleNamespace(name="CONVOLUTION"),
    )
    network = SimpleNamespace(num_layers=2, get_layer=lambda _: half)
    builder = SimpleNamespace(
        create_network=lambda flags: log.append(("create_network", flags)) or network,
        create_builder_config=lambda: FakeConfig(log),
        create_optimization_profile=lambda: SimpleNamespace(set_shape=lambda *shapes: log.append(("shape", *shapes))),
        build_serialized_network=lambda *_: b"plan",
    )
    trt = SimpleNamespace(
        __version__="11.4.0.106",
        ILogger=type("ILogger", (), {"Severity": SimpleNamespace(ERROR=1, INTERNAL_ERROR=0)}),
        NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=1),
        Builder=lambda _: builder,
        OnnxParser=lambda *_: SimpleNamespace(parse=lambda _: True),
        BuilderFlag=Named(),
        HardwareCompatibilityLevel=Named(),
    )
    return SimpleNamespace(trt=trt, log=log)


def test_the_data_centre_is_told_everything(datacenter, tmp_path) -> None:
    """Strongly typed, NaN kept, no TF32, the profile; other cards and later versions as asked; never a precision."""
    key = key_of(flavour="datacenter", hardware="ampere-plus", version_compatible=True, stripped=True)
    parsed = parse(datacenter.trt, b"graph", "fp16")
    assert build(parsed, key, tmp_path / "timing" / "times.cache") == b"plan"
    assert ("create_network", 2) in datacenter.log
    assert ("shape", "s1", (1, 2, 32, 32), (2, 2, 64, 64), (8, 2, 64, 64)) in datacenter.log
    flags = {call[1] for call in datacenter.log if call[0] == "set_flag"}
    assert flags == {"STRICT_NANS", "VERSION_COMPATIBLE", "STRIP_PLAN"}
    assert ("clear_flag", "TF32") in datacenter.log
    assert ("hardware_compatibility_level", "AMPERE_PLUS") in datacenter.log
    assert not any("compute_capabilit" in call[0] for call in datacenter.log)


def test_nothing_is_asked_for_that_was_not(datacenter) -> None:
    """A plain engine has no flag but that of NaN, and no cache of times."""
    build(parse(datacenter.trt, b"graph", "fp16"), key_of(flavour="datacenter"))
    assert {call[1] for call in datacenter.log if call[0] == "set_flag"} == {"STRICT_NANS"}
    assert not any(call[0] in {"hardware_compatibility_level", "set_timing_cache"} for call in datacenter.log)


def test_times_are_kept_between_builds(datacenter, tmp_path) -> None:
    """The second build reads what the first measured; times of another card are left, not trusted."""
    path = tmp_path / "timing" / "times.cache"
    for _ in range(2):
        build(parse(datacenter.trt, b"graph", "fp16"), key_of(flavour="datacenter"), path)
    path.write_bytes(b"of another card")
    build(parse(datacenter.trt, b"graph", "fp16"), key_of(flavour="datacenter"), path)
    given = [call[1:] for call in datacenter.log if call[0] == "set_timing_cache"]
    assert given == [(b"", False), (b"times", False), (b"of another card", False), (b"", False)]
    assert path.read_bytes() == b"times"
    assert list(path.parent.iterdir()) == [path]


def test_layers_are_counted_by_what_they_give() -> None:
    """A layer that gives whole numbers or nothing is no floating layer; a product of matrices is a heavy one."""

    def layer(kind, dtype):
        outputs = [SimpleNamespace(dtype=SimpleNamespace(name=dtype))] if dtype else []
        return SimpleNamespace(
            num_outputs=len(outputs), get_output=lambda at: outputs[at], type=SimpleNamespace(name=kind)
        )

    layers = [
        layer("CONVOLUTION", "HALF"),
        layer("MATRIX_MULTIPLY", "FLOAT"),
        layer("ACTIVATION", "HALF"),
        layer("SHAPE", "INT64"),
        layer("ASSERTION", None),
    ]
    counted = count_layers(SimpleNamespace(num_layers=len(layers), get_layer=lambda at: layers[at]))
    assert (counted.floating, counted.half, counted.heavy, counted.heavy_half) == (3, 2, 2, 1)
    assert counted.half_share == 0.5
