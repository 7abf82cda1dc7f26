import pytest

from export.triton_config import GRAPH_FILES, config_pbtxt
from tocsin.manifest import DYNAMIC, ModelFacts
from tocsin.repository import find_repository, list_models, read_manifest

model_config_pb2 = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="needs the extra triton")
text_format = pytest.importorskip("google.protobuf.text_format", reason="needs the extra triton")

SHA256 = "0123456789abcdef" * 4


def parsed(facts, **named):
    """Return Triton's own reading of the configuration."""
    return text_format.Parse(config_pbtxt(facts, SHA256, **named), model_config_pb2.ModelConfig())


def test_says_what_is_served(model_facts) -> None:
    """Name, backend and graph file are the model's; precision and hash stand where a client finds them."""
    config = parsed(model_facts)
    assert (config.name, config.backend, config.default_model_filename) == ("flood", "onnxruntime", "model.onnx")
    assert {key: each.string_value for key, each in config.parameters.items()} == {
        "precision": "fp32",
        "graph_sha256": SHA256,
    }


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_precision_is_a_graph_file(model_facts, precision) -> None:
    """The file and the parameter say the same precision."""
    config = parsed(model_facts, precision=precision)
    assert config.default_model_filename == GRAPH_FILES[precision]
    assert config.parameters["precision"].string_value == precision


def test_names_and_shapes_are_the_manifests(model_facts) -> None:
    """Every tensor is float32 and has the manifest's name and axes, the batch left out."""
    config = parsed(model_facts)
    float32 = model_config_pb2.DataType.Value("TYPE_FP32")
    for tensors, specs in ((config.input, model_facts.inputs), (config.output, model_facts.outputs)):
        assert [tensor.name for tensor in tensors] == [spec.name for spec in specs]
        assert [tuple(tensor.dims) for tensor in tensors] == [spec.shape for spec in specs]
        assert {tensor.data_type for tensor in tensors} == {float32}


def test_several_tensors(model_facts) -> None:
    """A model with two inputs of fixed and free axes gives a valid configuration, warm-up included."""
    spec = model_facts.inputs[0].model_dump()
    dem = spec | {"name": "dem", "bands": ("height",), "unit": "m", "shape": (1, 128, DYNAMIC), "normalisation": None}
    config = parsed(ModelFacts.model_validate(model_facts.model_dump() | {"inputs": (spec, dem)}))
    assert [tuple(tensor.dims) for tensor in config.input] == [(2, -1, -1), (1, 128, -1)]
    warm = config.model_warmup[0].inputs
    assert tuple(warm["s1"].dims) == (2, model_facts.chip_px, model_facts.chip_px)
    assert tuple(warm["dem"].dims) == (1, 128, model_facts.chip_px)


def test_rules_of_the_queue(model_facts) -> None:
    """Requests are batched but never held back, wait a bounded time in a bounded queue, and are refused after it."""
    config = parsed(model_facts)
    batching = config.dynamic_batching
    policy = batching.default_queue_policy
    assert config.max_batch_size == 8
    assert batching.max_queue_delay_microseconds == 0
    assert (policy.max_queue_size, policy.default_timeout_microseconds) == (64, 30_000_000)
    assert policy.timeout_action == model_config_pb2.ModelQueuePolicy.REJECT
    assert policy.allow_timeout_override


def test_one_version_on_cpu(model_facts) -> None:
    """The newest version is served by one instance on CPU."""
    config = parsed(model_facts)
    assert config.version_policy.latest.num_versions == 1
    assert [(group.count, group.kind) for group in config.instance_group] == [
        (1, model_config_pb2.ModelInstanceGroup.KIND_CPU)
    ]


@pytest.mark.parametrize("name", list_models())
def test_shipped_configurations_are_todays(name) -> None:
    """What is shipped is what this version writes: `tocsin export config` has been run."""
    manifest, folder = read_manifest(name), find_repository() / name
    default = manifest.artifacts[0]
    assert (folder / "config.pbtxt").read_text() == config_pbtxt(manifest, default.sha256, default.precision)
