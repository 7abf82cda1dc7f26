import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")
onnx = pytest.importorskip("onnx", reason="needs the extra train")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra cpu or gpu")

from export import model, volcano  # noqa: E402 - after the skips: they need torch
from export.graph import to_onnx  # noqa: E402
from export.graphs import VolcanoGraph  # noqa: E402
from export.parity import ParityChips, TorchReference, measure  # noqa: E402
from export.triton_config import config_pbtxt  # noqa: E402
from export.volcano_chips import BATCHES, CHIP_PX, volcano_chips  # noqa: E402
from tocsin.errors import ModelInvalidError  # noqa: E402
from tocsin.manifest import Architecture, Calibration, ModelFacts  # noqa: E402
from tocsin.repository import load_model  # noqa: E402
from tocsin.simulate import SOURCES  # noqa: E402
from training import checkpoints  # noqa: E402
from training.networks import parameter_count  # noqa: E402
from training.networks.encoders import EncoderConfig  # noqa: E402
from training.networks.volcano import VolcanoConfig, VolcanoLogits, VolcanoNetwork  # noqa: E402

SIZE = 64
SMALL = VolcanoConfig(
    encoder=EncoderConfig(widths=(8, 16, 24, 32), depths=(1, 1, 1, 1), stem_width=8, chip_px=SIZE),
    projection=(16,),
    mask_width=8,
)
FAMILIES = {
    "resnet": EncoderConfig(widths=(16, 32, 48, 64), depths=(1, 1, 1, 1), stem_width=16),
    "bottleneck": EncoderConfig(widths=(32, 64, 96, 128), depths=(1, 1, 1, 1), stem_width=16, bottleneck=True),
    "swin": EncoderConfig(family="swin", widths=(24, 48, 96, 192), depths=(2, 2, 2, 2)),
    "deit": EncoderConfig(family="deit", widths=(96,), depths=(4,), heads=(3,)),
    "cvt": EncoderConfig(family="cvt", widths=(32, 64, 96), depths=(1, 2, 3), heads=(1, 2, 3)),
}


def network_of(config, seed=0):
    """Return a network with random weights, normalisation layers included, whose answers differ from chip to chip."""
    torch.manual_seed(seed)
    network = VolcanoNetwork(config).eval()
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif name.endswith("running_mean"):
            tensor.normal_(0, 0.1)
    with torch.no_grad():
        for layer in (network.projection[-1], network.source, network.mask.head):
            layer.weight.mul_(8)
    return network


def facts_of(config, checkpoint_facts, **changes):
    """Return the facts of a checkpoint of that network."""
    said = Architecture(
        name="small", parameters=parameter_count(VolcanoNetwork(config)), config=config.model_dump(mode="json")
    )
    told = {"hazard": "volcano", "name": "volcano", "architecture": said, "normalisation": None}
    told["output_calibrations"] = {"mask": Calibration(kind="temperature", temperature=2.0, bias=0.5)}
    return checkpoint_facts.model_copy(update=told | changes)


@pytest.fixture(scope="module")
def facts(checkpoint_facts):
    """Return the facts of a small volcano checkpoint."""
    return facts_of(SMALL, checkpoint_facts)


@pytest.fixture(scope="module")
def module(facts):
    """Return the module that is written as a graph."""
    return volcano.module(facts, network_of(SMALL).state_dict())


@pytest.fixture(scope="module")
def graph(module, facts):
    """Return the graph's bytes."""
    return to_onnx(module, volcano.facts(facts))


@pytest.fixture(scope="module")
def session(graph):
    """Return an ONNX Runtime session of the graph."""
    return onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])


def phases(seed, batch=1):
    """Return phase [batch, 1, SIZE, SIZE], rad, float32."""
    return np.random.default_rng(seed).uniform(-np.pi, np.pi, (batch, 1, SIZE, SIZE)).astype(np.float32)


def run(module, phase):
    """Return the module's outputs by name."""
    with torch.inference_mode():
        values = module(torch.from_numpy(phase))
    names = ["deformation", "source", "mask", "embedding", *module.internals]
    return {name: value.numpy() for name, value in zip(names, values, strict=True)}


class Fixed(torch.nn.Module):
    """A network whose logits are given."""

    class encoder(torch.nn.Module):  # noqa: N801 - stands for an attribute
        """No encoder."""

        channels = (1,)

    def judge(self, encoded, features):
        """Return the logits."""
        batch = features[0].shape[0]
        source = torch.arange(6.0).expand(batch, 6)
        mask = torch.full((batch, 1, *encoded.shape[-2:]), 3.0)
        return VolcanoLogits(torch.full((batch,), 2.0), source, mask, torch.zeros(batch, 3))


def test_calibration_is_inside() -> None:
    """Each output has its own: sigmoid(logit / temperature + bias), softmax(logits / temperature)."""
    network = Fixed()
    network.encoder = lambda encoded: [encoded]
    network.encoder.channels = (1,)
    further = {
        "mask": Calibration(kind="temperature", temperature=2.0, bias=0.5),
        "source": Calibration(kind="temperature", temperature=4.0),
    }
    graph = VolcanoGraph(network, Calibration(kind="temperature", temperature=4.0, bias=-0.5), further)
    found = run(graph, phases(0, 2))
    assert found["deformation"] == pytest.approx(np.full((2, 1), 0.5))
    assert found["mask"] == pytest.approx(np.full((2, 1, SIZE, SIZE), 1 / (1 + np.exp(-2.0))))
    assert found["source"][0] == pytest.approx(np.exp(np.arange(6) / 4) / np.exp(np.arange(6) / 4).sum())
    assert run(VolcanoGraph(network, Calibration(kind="none"), {}), phases(0))["mask"].max() == pytest.approx(
        1 / (1 + np.exp(-3.0))
    )


def test_shapes_and_ranges_are_those_of_the_contract(session) -> None:
    """P(deformation), P over sources of sum one, P per pixel, and a place in three dimensions, for any batch."""
    for batch in (1, 2, 5):
        deformation, source, mask, embedding = session.run(None, {"phase": phases(batch, batch)})
        assert deformation.shape == (batch, 1)
        assert source.shape == (batch, len(SOURCES))
        assert mask.shape == (batch, 1, SIZE, SIZE)
        assert embedding.shape == (batch, 3)
        assert source.sum(axis=1) == pytest.approx(np.ones(batch), abs=1e-6)
        for probability in (deformation, source, mask):
            assert ((probability >= 0) & (probability <= 1)).all()


def test_nan_stays_where_it_is(session) -> None:
    """The mask is NaN where the phase is and nowhere else; the chip's own answers are numbers."""
    phase = phases(1)
    phase[0, 0, :20, 5:30] = np.nan
    deformation, source, mask, embedding = session.run(None, {"phase": phase})
    np.testing.assert_array_equal(np.isnan(mask), np.isnan(phase))
    assert all(np.isfinite(each).all() for each in (deformation, source, embedding))


def test_one_measured_pixel_is_enough(session) -> None:
    """A single pixel gives an answer for the chip, and a mask at that pixel alone."""
    phase = np.full((1, 1, SIZE, SIZE), np.nan, np.float32)
    phase[0, 0, 3, 4] = 0.5
    deformation, _, mask, _ = session.run(None, {"phase": phase})
    assert np.isfinite(deformation).all()
    assert np.argwhere(np.isfinite(mask)).tolist() == [[0, 0, 3, 4]]


def test_a_chip_without_phase_has_no_answer(session) -> None:
    """Every output is NaN there, and the chip beside it is not touched."""
    phase = phases(2, 2)
    phase[0] = np.nan
    for together, alone in zip(
        session.run(None, {"phase": phase}), session.run(None, {"phase": phase[1:]}), strict=True
    ):
        assert np.isnan(together[0]).all()
        np.testing.assert_array_equal(together[1], alone[0])


def test_phase_is_an_angle(module) -> None:
    """Whole turns change nothing, and both ends of the interval are one direction."""
    phase = phases(3)
    turned = phase + np.float32(2 * np.pi) * np.random.default_rng(0).integers(-3, 4, phase.shape).astype(np.float32)
    for name, value in run(module, phase).items():
        np.testing.assert_allclose(run(module, turned)[name], value, atol=2e-4)
    ends = [run(module, np.full_like(phase, end))["deformation"] for end in (np.pi, -np.pi)]
    np.testing.assert_allclose(*ends, atol=1e-6)


def test_what_stands_for_missing_changes_no_other_pixel(module) -> None:
    """NaN and infinity in a hole give the same result everywhere."""
    results = []
    for missing in (np.nan, np.inf, -np.inf):
        phase = phases(4)
        phase[0, 0, 8:24, 8:24] = missing
        results.append(run(module, phase))
    for other in results[1:]:
        for name, value in results[0].items():
            np.testing.assert_array_equal(other[name], value)


def test_names_and_shapes_are_the_manifests(session, facts) -> None:
    """Inputs and outputs of the file, and Triton's configuration, are named and shaped as the manifest says."""
    told = volcano.facts(facts)
    config = config_pbtxt(told, "0" * 64)
    for given, specs in ((session.get_inputs(), told.inputs), (session.get_outputs(), told.outputs)):
        assert [each.name for each in given] == [spec.name for spec in specs]
        assert [tuple(each.shape) for each in given] == [("batch", *spec.shape) for spec in specs]
        for spec in specs:
            dims = ", ".join(map(str, spec.shape))
            assert f'name: "{spec.name}"\n    data_type: TYPE_FP32\n    dims: [ {dims} ]' in config


def test_triton_understands_the_configuration(facts) -> None:
    """Triton's own message type parses outputs without rows and columns."""
    model_config_pb2 = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="needs the extra triton")
    from google.protobuf import text_format

    config = text_format.Parse(config_pbtxt(volcano.facts(facts), "0" * 64), model_config_pb2.ModelConfig())
    assert [tuple(tensor.dims) for tensor in config.output] == [(1,), (6,), (1, SIZE, SIZE), (3,)]


def test_facts_follow_the_contract(checkpoint_facts) -> None:
    """The shipped size, the sources in the simulator's order, the trained pixel sizes and both calibrations."""
    told = volcano.facts(facts_of(VolcanoConfig(encoder=EncoderConfig()), checkpoint_facts))
    (phase,) = told.inputs
    deformation, source, mask, embedding = told.outputs
    assert (phase.name, phase.unit, phase.shape, phase.normalisation) == ("phase", "rad", (1, 224, 224), None)
    assert [spec.shape for spec in told.outputs] == [(1,), (6,), (1, 224, 224), (3,)]
    assert source.bands == SOURCES
    assert (told.chip_px, told.gsd_m, told.hazard) == (224, (80.0, 350.0), "volcano")
    assert told.calibration == checkpoint_facts.calibration
    assert (deformation.calibration, embedding.calibration) == (None, None)
    assert mask.calibration is not None
    assert mask.calibration.temperature == 2.0
    assert source.calibration == Calibration(kind="none")
    assert ModelFacts.from_metadata(told.to_metadata()) == told


def test_a_softmax_head_shows_its_logits(checkpoint_facts) -> None:
    """A network without prototypes exports too, its embedding being two logits."""
    config = SMALL.model_copy(update={"head": "softmax"})
    facts = facts_of(config, checkpoint_facts)
    told = volcano.facts(facts)
    assert told.outputs[3].shape == (2,)
    session = onnxruntime.InferenceSession(to_onnx(volcano.module(facts, network_of(config).state_dict()), told))
    deformation, _, _, logits = session.run(None, {"phase": phases(5)})
    calibrated = (logits[:, 1] - logits[:, 0]) / facts.calibration.temperature + facts.calibration.bias
    assert deformation[:, 0] == pytest.approx(1 / (1 + np.exp(-calibrated)), abs=1e-5)


def test_the_encoder_can_be_cut_out(module, graph) -> None:
    """Feature maps keep their names and shapes inside the file, and the part up to them runs alone."""
    proto = onnx.load_from_string(graph)
    assert {each.name for each in proto.graph.output} == {"deformation", "source", "mask", "embedding"}
    shapes = {
        each.name: [dim.dim_param or dim.dim_value for dim in each.type.tensor_type.shape.dim]
        for each in proto.graph.value_info
    }
    assert shapes == {
        f"features_{n}": ["batch", width, SIZE // 2 ** (n + 1), SIZE // 2 ** (n + 1)]
        for n, width in enumerate((8, 16, 24, 32), start=1)
    }
    part = onnx.utils.Extractor(proto).extract_model(["phase"], ["features_2", "features_4"])
    onnx.checker.check_model(part, full_check=True)
    phase = phases(6, 3)
    expected = run(module, phase)
    session = onnxruntime.InferenceSession(part.SerializeToString(), providers=["CPUExecutionProvider"])
    for name, value in zip(("features_2", "features_4"), session.run(None, {"phase": phase}), strict=True):
        np.testing.assert_allclose(value, expected[name], atol=1e-5)


def test_the_same_module_writes_the_same_bytes(module, facts, graph) -> None:
    """Exporting twice gives the same file."""
    assert to_onnx(module, volcano.facts(facts)) == graph


def small_chips(_data):
    """Yield the simulated set at the small network's size."""
    return volcano_chips(None, size_px=SIZE)


def test_a_checkpoint_becomes_a_model(facts, tmp_path, monkeypatch) -> None:
    """One call writes graph, configuration and manifest, within every limit, and the model loads."""
    monkeypatch.setattr(volcano, "chips", small_chips)
    checkpoints.save(tmp_path / "v.safetensors", network_of(SMALL).state_dict(), facts)
    manifest = model.export_model(tmp_path / "v.safetensors", tmp_path / "models", None, precisions=())

    assert load_model("volcano", tmp_path / "models").manifest == manifest
    rows = manifest.artifacts[0].parity.rows
    assert {row.output for row in rows} == {"deformation", "source", "mask", "embedding"}
    assert all(row.same_nan and row.flipped_pixels == 0 for row in rows)
    assert {row.limit_difference for row in rows if row.output == "embedding"} == {1e-3}
    assert manifest.artifacts[0].parity.max_difference <= 1e-4


def test_answers_differ_on_the_chips(module, facts) -> None:
    """Parity proves something only where masks differ from pixel to pixel and verdicts from chip to chip."""
    reference = TorchReference(module, volcano.facts(facts))
    found = [reference.run(chips.inputs) for chips in small_chips(None)]
    masks = np.concatenate([each["mask"].ravel() for each in found])
    assert np.nanstd(masks) > 0.02
    deformation = np.concatenate([each["deformation"].ravel() for each in found])
    assert np.nanstd(deformation) > 0.02


@pytest.mark.parametrize(
    ("output", "change", "flipped"),
    [
        ("deformation", lambda p: (p < 0.5).astype(np.float32), 1),
        ("source", lambda p: np.roll(p, 1, axis=1), 1),
        ("mask", lambda p: np.where(np.isnan(p), p, p < 0.5).astype(np.float32), SIZE**2),
    ],
)
def test_every_kind_of_decision_is_counted(module, facts, output, change, flipped) -> None:
    """A chip's verdict, the most probable source and each pixel count as decisions of their own."""
    told = volcano.facts(facts)
    reference = TorchReference(module, told)

    class Changed:
        name = "changed"

        def run(self, inputs):
            found = reference.run(inputs)
            return found | {output: change(found[output])}

    chips = [ParityChips("noise", {"phase": phases(7)})]
    rows = {row.output: row for row in measure(reference, Changed(), chips, told, volcano.LIMITS).rows}
    assert (rows[output].flipped_pixels, rows[output].valid_pixels) == (flipped, flipped)
    assert sum(row.flipped_pixels for row in rows.values()) == flipped


def test_the_chips_hold_every_trap() -> None:
    """Batches of several sizes; nothing, half, holes, one pixel; the seam and beyond it; each the same every time."""
    cases = {chips.case: chips.inputs["phase"] for chips in small_chips(None)}
    again = {chips.case: chips.inputs["phase"] for chips in small_chips(None)}
    for name, phase in cases.items():
        assert phase.dtype == np.float32
        assert phase.shape[1:] == (1, SIZE, SIZE)
        np.testing.assert_array_equal(phase, again[name])
    assert {phase.shape[0] for phase in cases.values()} >= set(BATCHES)
    assert np.isfinite(cases["one measured pixel"]).sum() == 1
    assert np.isnan(cases["nothing but NaN"]).all()
    assert np.isfinite(cases["simulated, half of it NaN"]).mean() <= 0.5
    assert set(np.unique(cases["phase of pi and -pi"])) == {np.float32(np.pi), np.float32(-np.pi)}
    assert np.nanmax(np.abs(cases["simulated, up to eight turns added"])) > 40
    assert np.isinf(cases["simulated, infinite values"]).any()
    assert CHIP_PX == 224


@pytest.mark.data
def test_real_pictures_follow(data) -> None:
    """Pictures of DeepCube come after the simulated ones, as phase with its noise."""
    real = {chips.case: chips.inputs["phase"] for chips in volcano_chips(data) if chips.case.startswith("real, ")}
    assert len(real) == 16
    assert {name.removeprefix("real, ").split("/")[0] for name in real} == {"C1", "S1"}
    for phase in real.values():
        assert phase.shape == (1, 1, 224, 224)
        assert np.nanmax(np.abs(phase)) <= np.pi


def test_a_checkpoint_without_metrics_is_refused(facts) -> None:
    """No model is shipped without figures beside a baseline."""
    with pytest.raises(ModelInvalidError, match="without metrics"):
        volcano.facts(facts.model_copy(update={"metrics": ()}))


def test_weights_of_another_network_are_refused(facts) -> None:
    """Weights that do not fit the network that the checkpoint describes say so."""
    with pytest.raises(ModelInvalidError, match="do not fit"):
        volcano.module(facts, dict(list(network_of(SMALL).state_dict().items())[:-1]))


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_encoder_becomes_a_graph(family, checkpoint_facts, tmp_path) -> None:
    """Each family exports with a free batch, keeps its feature maps, and passes parity at the shipped size."""
    # A transformer's constants would be written once a turn.
    config = VolcanoConfig(encoder=FAMILIES[family], turns=1)
    facts = facts_of(config, checkpoint_facts)
    checkpoints.save(tmp_path / "v.safetensors", network_of(config).state_dict(), facts)
    prepared = model.prepare(tmp_path / "v.safetensors")
    graph = to_onnx(prepared.module, prepared.facts)
    parity = model.parity_of(graph, prepared, None)
    assert parity.max_difference <= 1e-4
    kept = [each.name for each in onnx.load_from_string(graph).graph.value_info]
    assert kept == list(prepared.module.internals)
    assert len(graph) <= 1.1 * 4 * sum(each.numel() for each in prepared.module.parameters()) + (1 << 20)
