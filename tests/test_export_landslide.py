"""The landslide graph: what it says with random weights, where it is silent, and that it is the network's equal."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")
onnx = pytest.importorskip("onnx", reason="needs the extra train")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra cpu or gpu")

from export import landslide, model  # noqa: E402 - after the skips: they need torch
from export.landslide_chips import BATCHES, landslide_chips, simulated, three  # noqa: E402
from export.landslide_graph import LandslideGraph  # noqa: E402
from export.parity import ParityChips, TorchReference, check, measure  # noqa: E402
from export.triton_config import config_pbtxt  # noqa: E402
from tocsin.errors import ModelInvalidError  # noqa: E402
from tocsin.hazards.landslide import CHIP  # noqa: E402
from tocsin.manifest import Architecture, Calibration  # noqa: E402
from tocsin.repository import load_model  # noqa: E402
from training import checkpoints  # noqa: E402
from training.networks import parameter_count  # noqa: E402
from training.networks.landslide import LandslideConfig, LandslideLogits, LandslideNetwork  # noqa: E402

SMALL = LandslideConfig(
    acquisition_width=4, side_widths=(4, 8), embedding=8, widths=(8, 8), refined=4, hidden=8, windows=(1, 5)
)
PLAIN_OPERATORS = (
    "Abs Add And AveragePool Cast Clip Concat Constant ConstantOfShape Conv Div Equal Exp Expand Flatten Gather Gemm "
    "Greater GreaterOrEqual Identity IsInf IsNaN Less LessOrEqual Log MatMul Max MaxPool Min Mul Neg Not Or Pad Pow "
    "ReduceMax ReduceMean ReduceProd ReduceSum Relu Reshape Resize Shape Sigmoid Slice Softmax Split Sqrt Squeeze Sub "
    "Transpose Unsqueeze Where"
)
"""What TensorRT's parser, ONNX Runtime's quantiser and a conversion to FP16 all take."""


def network_of(config, seed=0):
    """Return a network with random weights whose answers differ from chip to chip."""
    torch.manual_seed(seed)
    network = LandslideNetwork(config).eval()
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif name.endswith("running_mean"):
            tensor.normal_(0, 0.1)
    return network


@pytest.fixture(scope="module")
def facts(checkpoint_facts):
    """Return the facts of a small landslide checkpoint."""
    said = Architecture(
        name="small", parameters=parameter_count(LandslideNetwork(SMALL)), config=SMALL.model_dump(mode="json")
    )
    told = {"hazard": "landslide", "name": "landslide", "architecture": said, "normalisation": None}
    told["calibration"] = Calibration(kind="temperature", temperature=2.0)
    told["output_calibrations"] = {"mask": Calibration(kind="temperature", temperature=2.0, bias=0.5)}
    return checkpoint_facts.model_copy(update=told)


@pytest.fixture(scope="module")
def module(facts):
    """Return the module that is written as a graph."""
    return landslide.module(facts, network_of(SMALL).state_dict())


@pytest.fixture(scope="module")
def repository(facts, tmp_path_factory):
    """Return a repository that the checkpoint was exported into, every gate passed."""
    folder = tmp_path_factory.mktemp("landslide")
    checkpoints.save(folder / "small.safetensors", network_of(SMALL).state_dict(), facts)
    model.export_model(folder / "small.safetensors", folder / "models", None, precisions=())
    return folder / "models"


@pytest.fixture(scope="module")
def run(repository):
    """Return a function that runs the exported graph on a chip and returns its outputs by name."""
    session = onnxruntime.InferenceSession(
        repository / "landslide" / "1" / "model.onnx", providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]

    def answer(**inputs):
        return dict(zip(names, session.run(None, inputs), strict=True))

    return answer


@pytest.fixture(scope="module")
def chip():
    """Return a simulated chip with six acquisitions and heights, as a batch of one."""
    return {name: values[None] for name, values in full(1).items()}


def full(seed):
    """Return a simulated chip with its empty places filled from the first acquisition of the side."""
    drawn = dict(simulated(seed, CHIP))
    return drawn | {side: np.where(np.isnan(drawn[side]), drawn[side][:1], drawn[side]) for side in ("pre", "post")}


class Fixed(torch.nn.Module):
    """A network whose logits are given, and that keeps what it was given."""

    def forward(self, pre, post, dem):
        """Return the logits."""
        self.given = pre, post, dem
        batch, rows, cols = len(pre), *dem.shape[-2:]
        return LandslideLogits(
            torch.tensor([0.0, 2.0, 4.0]).expand(batch, 3),
            torch.full((batch,), 3.0),
            torch.full((batch, 1, rows, cols), 3.0),
        )


def test_calibration_is_inside() -> None:
    """The class is softmax(logits / temperature), the mask sigmoid(logit / temperature + bias), density exp(log)."""
    further = {"mask": Calibration(kind="temperature", temperature=2.0, bias=0.5)}
    graph = LandslideGraph(Fixed(), Calibration(kind="temperature", temperature=2.0), further)
    seen = torch.zeros(2, 3, 2, 8, 8)
    density_class, density, mask = graph(seen, seen, torch.zeros(2, 1, 8, 8))
    odds = np.exp([0.0, 1.0, 2.0])
    assert density_class.numpy() == pytest.approx(np.tile(odds / odds.sum(), (2, 1)))
    assert density.numpy() == pytest.approx(np.full((2, 1), np.exp(3.0)))
    assert mask.numpy() == pytest.approx(np.full((2, 1, 8, 8), 1 / (1 + np.exp(-2.0))))


def test_what_is_no_measurement_is_missing() -> None:
    """Values that no radar measures and heights that no land has reach the network as NaN, and all others untouched."""
    graph, network = LandslideGraph(Fixed(), Calibration(kind="none"), {}), Fixed()
    graph.network = network
    side = torch.tensor([[-14.0, -9999.0, np.inf], [1e30, -np.inf, np.nan]]).expand(1, 3, 2, 2, 3)
    dem = torch.tensor([[-32768.0, -9999.0, np.inf], [8848.0, -430.0, np.nan]]).expand(1, 1, 2, 3)
    graph(side, side, dem)
    nan = np.nan
    for given in network.given[:2]:
        np.testing.assert_array_equal(given[0, 0, 0].numpy(), [[-14, nan, nan], [nan, nan, nan]])
    np.testing.assert_array_equal(network.given[2][0, 0].numpy(), [[nan, nan, nan], [8848, -430, nan]])


def test_shapes_and_ranges_are_those_of_the_contract(run) -> None:
    """Three probabilities of sum one, a density and a probability per pixel, for any batch."""
    for batch in (1, 2, 5):
        chips = [full(seed) for seed in range(batch)]
        said = run(**{name: np.stack([chip[name] for chip in chips]) for name in ("pre", "post", "dem")})
        assert {name: values.shape for name, values in said.items()} == {
            "density_class": (batch, 3),
            "density": (batch, 1),
            "mask": (batch, 1, CHIP, CHIP),
        }
        assert said["density_class"].sum(axis=1) == pytest.approx(np.ones(batch), abs=1e-6)
        assert (said["density"] >= 0).all()
        known = np.isfinite(said["mask"])
        seen = [np.isfinite([chip[side] for chip in chips]).any(axis=(1, 2)) for side in ("pre", "post")]
        np.testing.assert_array_equal(known[:, 0], seen[0] & seen[1])
        assert ((said["mask"] > 0) & (said["mask"] < 1))[known].all()


def test_nan_where_a_side_was_not_seen(run, chip) -> None:
    """The mask is silent at pixels that lack a side, in every band and acquisition; one value a side is enough."""
    pre, post = (np.full_like(chip[side], np.nan) for side in ("pre", "post"))
    pre[0, 2, 1, :10], post[0, 0, 0, 5:20] = -14.0, -9.0
    said = run(pre=pre, post=post, dem=chip["dem"])
    expected = np.zeros((CHIP, CHIP), bool)
    expected[5:10] = True
    np.testing.assert_array_equal(np.isfinite(said["mask"][0, 0]), expected)
    assert np.isfinite(said["density_class"]).all()
    assert np.isfinite(said["density"]).all()
    post[0, 0, 0, 5:10] = np.nan
    said = run(pre=pre, post=post, dem=chip["dem"])
    assert all(np.isnan(values).all() for values in said.values())


def test_a_chip_is_judged_alone(run, chip) -> None:
    """A neighbour in the batch, all NaN or not, changes no answer."""
    alone = run(**chip)
    for other in (full(2), {name: np.full_like(values[0], np.nan) for name, values in chip.items()}):
        both = run(**{name: np.stack([other[name], values[0]]) for name, values in chip.items()})
        for name, values in alone.items():
            np.testing.assert_array_equal(both[name][1:], values)


def test_order_of_acquisitions_is_of_no_account(run, chip) -> None:
    """Acquisitions of a side exchange places without changing an answer."""
    turned = run(**chip | {side: chip[side][:, ::-1].copy() for side in ("pre", "post")})
    for name, values in run(**chip).items():
        assert turned[name] == pytest.approx(values, abs=1e-5, nan_ok=True)


@pytest.mark.parametrize("gone", ["pre", "post", "dem"])
def test_missing_values_change_nothing_but_what_they_are(run, chip, gone) -> None:
    """What stands in a file under a missing value never reaches an answer."""
    holes = np.random.default_rng(5).random(chip[gone].shape) < 0.1
    answers = [run(**chip | {gone: np.where(holes, np.float32(value), chip[gone])}) for value in (np.nan, -9999, 3e38)]
    for name, values in answers[0].items():
        for other in answers[1:]:
            np.testing.assert_array_equal(other[name], values)


def test_export_writes_a_model_that_loads(repository, facts) -> None:
    """Manifest, configuration and hashes agree; every case of parity is in the manifest, and none is over a limit."""
    manifest = load_model("landslide", repository).manifest
    assert (manifest.hazard, manifest.chip_px, manifest.gsd_m) == ("landslide", 128, (7.0, 15.0))
    parity = manifest.artifacts[0].parity
    assert {row.case for row in parity.rows} == {batch.case for batch in landslide_chips(None)}
    assert {row.output for row in parity.rows} == {"density_class", "density", "mask"}
    assert parity.flipped_fraction <= parity.limit_flipped
    assert all(row.same_nan for row in parity.rows)
    assert landslide.facts(facts).to_metadata() == {
        entry.key: entry.value for entry in onnx.load(repository / "landslide" / "1" / "model.onnx").metadata_props
    }


def test_operators_are_plain(repository) -> None:
    """Every operator is one that TensorRT and the precisions know, of the standard domain."""
    graph = onnx.load(repository / "landslide" / "1" / "model.onnx").graph
    assert {node.domain for node in graph.node} == {""}
    assert not {node.op_type for node in graph.node} - set(PLAIN_OPERATORS.split())


def test_another_network_is_refused(module, facts) -> None:
    """A graph of other weights is over the limits, and the message names the case."""
    other = landslide.module(facts, network_of(SMALL, seed=1).state_dict())
    said = landslide.facts(facts)
    references = (TorchReference(module, said), TorchReference(other, said))
    chips = [ParityChips("one chip", {name: values[None] for name, values in simulated(3, CHIP).items()})]
    with pytest.raises(ModelInvalidError, match="one chip"):
        check(measure(*references, chips, said, landslide.LIMITS), "graph")


def test_weights_of_another_network_are_refused(facts) -> None:
    """Weights that do not fit are named, not loaded in part."""
    with pytest.raises(ModelInvalidError, match="weights that do not fit"):
        landslide.module(facts, {})


def test_facts_are_those_of_the_contract(facts) -> None:
    """Names, units, shapes and bands of inputs and outputs, and the configuration that a server reads."""
    said = landslide.facts(facts)
    assert [(spec.name, spec.unit, spec.shape, spec.optional) for spec in said.inputs] == [
        ("pre", "dB", (3, 2, 128, 128), False),
        ("post", "dB", (3, 2, 128, 128), False),
        ("dem", "m", (1, 128, 128), True),
    ]
    assert [(spec.name, spec.shape) for spec in said.outputs] == [
        ("density_class", (3,)),
        ("density", (1,)),
        ("mask", (1, 128, 128)),
    ]
    assert said.inputs[0].bands == ("VV", "VH")
    assert said.outputs[0].bands == ("P(none)", "P(low)", "P(high)")
    assert said.outputs[2].calibration == facts.output_calibrations["mask"]
    assert "not on an inventory" in said.description
    assert "dims: [ 3, 2, 128, 128 ]" in config_pbtxt(said, 64 * "0")
    with pytest.raises(ModelInvalidError, match="without metrics"):
        landslide.facts(facts.model_copy(update={"metrics": ()}))


def test_shipped_network_is_small_enough() -> None:
    """The network of the default configuration fits into an FP32 graph of 15 MB."""
    assert 4 * parameter_count(LandslideNetwork(LandslideConfig())) < 14.5e6


def test_parity_chips_hold_what_can_go_wrong() -> None:
    """Batches, absent bands, sides and heights: each case is what its name says."""
    cases = {batch.case: batch.inputs for batch in landslide_chips(None, size_px=64)}
    assert {inputs["pre"].shape[0] for inputs in cases.values()} == {1, 2, *BATCHES}
    assert np.isnan(cases["heights absent"]["dem"]).all()
    for band, name in enumerate(("VV", "VH")):
        gone = cases[f"{name} missing"]
        assert np.isnan(gone["pre"][:, :, band]).all()
        assert np.isfinite(gone["post"][:, :, 1 - band]).any()
    for side, other in (("pre", "post"), ("post", "pre")):
        assert np.isnan(cases[f"nothing in {side}"][side]).all()
        assert np.isfinite(cases[f"nothing in {side}"][other]).any()
    kept = cases["acquisitions in places 3 alone"]["pre"]
    assert np.isnan(kept[:, :2]).all()
    assert np.isfinite(kept[:, 2]).any()
    assert np.isfinite(cases["one measured pixel"]["pre"]).sum() == 1
    nothing, chip = cases["nothing but NaN beside a valid chip"]["post"]
    assert np.isnan(nothing).all()
    assert np.isfinite(chip).any()


def test_three_places() -> None:
    """Places without an acquisition are NaN; none is repeated."""
    filled = three(np.zeros((2, 2, 4, 4), np.float32))
    assert filled.shape == (3, 2, 4, 4)
    assert np.isfinite(filled).all(axis=(1, 2, 3)).tolist() == [True, True, False]


@pytest.mark.data
def test_real_chips_are_of_every_burst(data) -> None:
    """Each series of OPERA RTC-S1 gives a chip of its middle in plausible dB, without heights."""
    real = {batch.case: batch.inputs for batch in landslide_chips(data) if batch.case.startswith("real")}
    assert len(real) == 6
    for inputs in real.values():
        assert inputs["post"].shape == (1, 3, 2, CHIP, CHIP)
        assert np.isnan(inputs["dem"]).all()
        assert -25 < np.nanmedian(inputs["post"][:, :, 1]) < -8
