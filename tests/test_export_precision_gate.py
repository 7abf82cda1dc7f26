"""The gate, the search for layers to keep, and the repository that both write into."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")
onnx = pytest.importorskip("onnx", reason="needs the extra train")
pytest.importorskip("onnxruntime", reason="needs the extra cpu or gpu")

from onnx import numpy_helper  # noqa: E402 - after the skips

from export import commands, flood, model  # noqa: E402
from export.parity import ParityChips, ParityLimits, check  # noqa: E402
from export.precision import flood_chips, gate, landslide_chips, lowering, volcano_chips  # noqa: E402
from export.precision.figures import CALIBRATION_SEED, JUDGED_SEED, ChipSet, iou, ranking  # noqa: E402
from export.repository import GraphFile, write  # noqa: E402
from tocsin.cli import main  # noqa: E402
from tocsin.cli.registry import as_command  # noqa: E402
from tocsin.errors import ModelInvalidError, ProductExistsError, UsageError  # noqa: E402
from tocsin.repository import load_model, verify_model  # noqa: E402

SIZE = (64, 64)
PROMISED = dict(gate.LIMITS)
"""The limits, before tests on noise and random weights widen them."""


def chip(seed):
    """Return one chip of backscatter [1, 2, 64, 64] with holes."""
    random = np.random.default_rng(seed)
    values = random.normal(-15, 6, (1, 2, *SIZE)).astype(np.float32)
    values[random.random(values.shape) < 0.05] = np.nan
    return {"s1": values}


def small_chips(_data, count=4):
    """Yield calibration chips in place of the full set."""
    for seed in range(count):
        yield ParityChips(f"calibration {seed}", chip(seed))


def small_sets(_data):
    """Yield one set with a truth in place of the full ones."""
    known = [{"water": (np.random.default_rng(9).random((1, 1, *SIZE)) < 0.3).astype(np.float32)}]
    yield ChipSet("noise", [ParityChips("noise 1", chip(91))], known, flood_chips.WATER)


def shrink(monkeypatch):
    """Let every step see a few small chips."""
    monkeypatch.setitem(lowering.CHIPS, "flood", lowering.PrecisionChips(small_chips, small_sets))
    monkeypatch.setattr(flood, "chips", lambda _data: iter([ParityChips("hard", chip(50))]))
    for precision, limits in PROMISED.items():
        monkeypatch.setitem(gate.LIMITS, precision, limits.model_copy(update={"flipped": 0.05, "change": 0.05}))
    monkeypatch.delenv("TOCSIN_DATA", raising=False)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    shrink(monkeypatch)


@pytest.fixture(scope="module")
def lowered_models(tmp_path_factory, model_facts, tiny_graph, passing_parity):
    """Return a repository with every precision of the small model, made once."""
    folder = tmp_path_factory.mktemp("lowered")
    write(folder, model_facts, [GraphFile("fp32", tiny_graph, 20, passing_parity)])
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        model.export_precisions("flood", folder, None)
    return folder


@pytest.fixture
def repository(lowered_models, tmp_path):
    """Return a copy of that repository."""
    return shutil.copytree(lowered_models, tmp_path / "lowered")


def judged(facts, wanted, given, truth=None, precision="int8", *, decided=True):
    """Return the gate's figures of answers [1, 1, H, W]."""
    figures = flood_chips.WATER if truth is not None else {}
    chips = ChipSet("set", [ParityChips("one", {})], [{"water": truth}] if truth is not None else (), figures, decided)
    expected = gate.Expected(facts, ParityLimits(), (chips,), (({"water": wanted},),))
    bounds = PROMISED[precision]
    rows = gate._rows(chips, expected.answers[0], [{"water": given}], expected, bounds)
    return gate.Parity(
        reference="fp32",
        limit_difference=bounds.difference,
        limit_flipped=bounds.flipped,
        limit_change=bounds.change,
        rows=tuple(rows),
    )


def ramp():
    """Return probabilities [1, 1, 100, 100], half of them water, far from the threshold, a corner missing."""
    values = np.full((1, 1, 100, 100), 0.2, np.float32)
    values[..., 50:] = 0.8
    values[..., :10, :10] = np.nan
    return values


def test_limits_are_those_that_the_project_promises() -> None:
    """FP16 flips one pixel in two thousand at most; INT8 changes a figure by 0.005 at most."""
    assert PROMISED["fp16"].flipped == 0.0005
    assert PROMISED["int8"].change == 0.005


def test_the_same_answers_pass(model_facts) -> None:
    """Nothing flipped, no worst chip, a change of zero."""
    parity = judged(model_facts, ramp(), ramp(), np.ones_like(ramp()))
    (row,) = parity.rows
    assert (row.shape, row.valid_pixels, row.flipped_pixels, row.worst, row.change) == ((1,), 9900, 0, None, 0.0)
    check(parity, "a graph")


def test_flips_over_the_limit_are_refused_and_the_worst_chip_is_named(model_facts) -> None:
    """One pixel in ten thousand is fine for FP16, a hundredth is not, however small the difference."""
    wanted = np.where(ramp() > 0.5, np.float32(0.5), ramp())
    given = wanted.copy()
    given[0, 0, 60, 60] = 0.49
    check(judged(model_facts, wanted, given, None, "fp16"), "a graph")
    given[0, 0, 60, 60:70] = 0.49
    parity = judged(model_facts, wanted, given, None, "fp16")
    assert (parity.rows[0].flipped_pixels, parity.rows[0].worst) == (10, "one")
    with pytest.raises(ModelInvalidError, match="flipped"):
        check(parity, "a graph")


def test_a_figure_that_changes_too_much_is_refused(model_facts) -> None:
    """Losing a hundredth of the water that is known is refused, though few pixels flipped."""
    truth = (np.nan_to_num(ramp()) > 0.5).astype(np.float32)
    given = ramp()
    given[0, 0, :48, 50] = 0.49
    parity = judged(model_facts, ramp(), given, truth)
    assert parity.rows[0].metric == "IoU water, pooled over pixels"
    assert parity.change == pytest.approx(-48 / 5000, rel=1e-2)
    assert parity.flipped_fraction < PROMISED["int8"].flipped
    with pytest.raises(ModelInvalidError, match="IoU water"):
        check(parity, "a graph")


def test_nan_elsewhere_and_large_differences_are_refused(model_facts) -> None:
    """A hole that is filled, and a probability that moves by more than half, are refused."""
    filled = np.nan_to_num(ramp(), nan=0.2)
    with pytest.raises(ModelInvalidError, match="NaN"):
        check(judged(model_facts, ramp(), filled), "a graph")
    moved = ramp()
    moved[0, 0, 60, 60] = 0.2
    with pytest.raises(ModelInvalidError, match="difference"):
        check(judged(model_facts, ramp(), moved), "a graph")


def test_chips_without_a_verdict_flip_nothing(model_facts) -> None:
    """Where scoring does not judge, a flip is none; differences and NaN are held against their limits all the same."""
    given = np.where(ramp() > 0.5, np.float32(0.4), ramp())
    (row,) = judged(model_facts, ramp(), given, decided=False).rows
    assert (row.flipped_pixels, row.max_difference) == (0, 0.4)
    with pytest.raises(ModelInvalidError, match="NaN"):
        check(judged(model_facts, ramp(), np.nan_to_num(given), decided=False), "a graph")


def test_sparse_interferograms_have_no_verdict() -> None:
    """As in scoring, a hundredth of the phase has to be there; a chip without any decides nothing anyway."""
    phase = np.full((2, 1, 100, 100), np.nan, np.float32)
    assert volcano_chips.decided(ParityChips("nothing", {"phase": phase}))
    phase[0, 0, 0, :99] = 1
    assert not volcano_chips.decided(ParityChips("sparse", {"phase": phase}))
    phase[0, 0, 0, 99] = 1
    assert volcano_chips.decided(ParityChips("enough", {"phase": phase}))


def test_figures_are_those_of_their_definition() -> None:
    """Intersection over union and rank, counted by hand."""
    scores, truth = np.array([0.9, 0.6, 0.4, 0.1], np.float32), np.array([True, False, True, False])
    assert iou(scores, truth, 0.5) == 1 / 3
    assert ranking(scores, truth, 0.5) == 3 / 4
    assert iou(scores, np.zeros(4, bool), 0.95) is None


def test_every_precision_lies_side_by_side(repository, tiny_graph, passing_parity) -> None:
    """The float32 graph and its figures are untouched; the others follow with theirs, and all hashes hold."""
    manifest = verify_model("flood", repository)
    assert [(row.precision, row.path) for row in manifest.artifacts] == [
        ("fp32", "1/model.onnx"),
        ("fp16", "1/model.fp16.onnx"),
        ("int8", "1/model.int8.onnx"),
    ]
    assert load_model("flood", repository).path.read_bytes() == tiny_graph
    first, half, eight = manifest.artifacts
    assert first.parity == passing_parity
    assert {row.parity.reference for row in (half, eight)} == {"fp32"}
    assert half.layers == eight.layers > 3
    assert eight.calibration_chips == tuple(f"calibration {seed}" for seed in range(4))
    assert [row.case for row in eight.parity.rows] == ["hard cases", "noise"]
    assert all(row.same_nan for artifact in manifest.artifacts for row in artifact.parity.rows)


def test_again_gives_the_same_folder(repository) -> None:
    """Made again, every file is the same byte for byte; without overwrite what exists is kept."""
    before = {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()}
    with pytest.raises(ProductExistsError, match="fp16 and int8"):
        model.export_precisions("flood", repository, None)
    model.export_precisions("flood", repository, None, ["fp16"], overwrite=True)
    assert {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()} == before


def test_a_refused_precision_leaves_the_repository_untouched(tiny_repository, monkeypatch, caplog) -> None:
    """When INT8 fails with half of its layers kept, nothing is written, FP16 neither, and the table is in the log."""
    monkeypatch.setitem(gate.LIMITS, "int8", gate.GateLimits(flipped=0, change=1e-9, difference=1e-9))
    before = {path: path.read_bytes() for path in tiny_repository.rglob("*") if path.is_file()}
    with caplog.at_level("WARNING"), pytest.raises(ModelInvalidError, match="int8 of flood"):
        model.export_precisions("flood", tiny_repository, None)
    assert {path: path.read_bytes() for path in tiny_repository.rglob("*") if path.is_file()} == before
    assert "noise" in caplog.text


def with_outlier(graph):
    """Return a graph in which one layer's first channel is so large that eight bits lose all others; same answers."""
    made = onnx.load_from_string(graph)
    layers = [node for node in made.graph.node if node.op_type == "Conv"]
    arrays = {each.name: each for each in made.graph.initializer}
    for node, axis, factor in ((layers[2], 0, 1e4), (layers[3], 1, 1e-4)):
        for name in node.input[1:] if axis == 0 else node.input[1:2]:
            values = numpy_helper.to_array(arrays[name]).copy()
            values[(0,) if axis == 0 else (slice(None), 0)] *= factor
            arrays[name].CopyFrom(numpy_helper.from_array(values, name))
    return made.SerializeToString(), [node.input[1].removesuffix(".weight") for node in layers[2:4]]


def test_the_layers_that_eight_bits_break_are_found_and_kept(tiny_graph, model_facts) -> None:
    """The mixed graph that passes is made, and the manifest's row names what stayed in float32."""
    graph, broken = with_outlier(tiny_graph)
    lowered = lowering.Lowering(graph, model_facts, flood.LIMITS, [ParityChips("hard", chip(50))], None)
    made = lowered.lowered("int8")
    assert set(broken) & set(made.kept_fp32)
    assert len(made.kept_fp32) < made.layers
    check(made.parity, "the mixed graph")


def test_a_chip_is_never_calibrated_and_judged_on(tiny_graph, model_facts, monkeypatch) -> None:
    """The same name on both sides is a defect that stops everything."""
    monkeypatch.setitem(
        lowering.CHIPS, "flood", lowering.PrecisionChips(lambda _: [ParityChips("noise 1", chip(1))], small_sets)
    )
    with pytest.raises(AssertionError, match="noise 1"):
        lowering.Lowering(tiny_graph, model_facts, flood.LIMITS, [], None)


@pytest.mark.parametrize("chips", [flood_chips, landslide_chips, volcano_chips], ids=lambda each: each.__name__)
def test_calibration_and_judgement_see_different_chips(chips) -> None:
    """By default seeds of calibration end before those of judgement, and holes or missing heights are among both."""
    count = chips.calibration.__defaults__[0]
    assert CALIBRATION_SEED + count <= JUDGED_SEED
    size = 64
    used = list(chips.calibration(None, 5, size))
    sets = list(chips.judged(None, 2, size))
    names = [batch.case for batch in used] + [batch.case for each in sets for batch in each.chips]
    assert len(set(names)) == len(names) >= 7
    for each in sets:
        for truth in each.truths:
            assert set(truth) <= {"water", "mask", "deformation"}
            assert all(set(np.unique(values)) <= {0.0, 1.0} for values in truth.values())
    assert any(np.isnan(values).any() for batch in used for values in batch.inputs.values())


@pytest.mark.data
def test_real_pictures_are_parted(data) -> None:
    """No picture of DeepCube is both calibrated and judged on, and both labels are on either side."""
    for pictures in volcano_chips._pictures(data):
        used = {picture.id for picture in volcano_chips._spread(pictures, volcano_chips.REAL_CALIBRATION)}
        others = {picture.id for picture in volcano_chips._others(pictures)}
        assert (len(used), len(others)) == (volcano_chips.REAL_CALIBRATION, volcano_chips.REAL_JUDGED)
        assert not used & others


def test_a_graph_without_layers_is_refused(logistic_models) -> None:
    """There is nothing to convert in it, and an FP32 graph under another name would be a lie."""
    found = load_model("flood", logistic_models)
    with pytest.raises(ModelInvalidError, match="without a convolution"):
        lowering.Lowering(found.path.read_bytes(), found.manifest, flood.LIMITS, [], None)


def test_graphs_that_are_too_large_together_are_refused() -> None:
    """What a wheel cannot carry is not written."""
    with pytest.raises(ModelInvalidError, match="27000000"):
        lowering.check_size([SimpleNamespace(content=bytes(9_000_001))] * 3)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_scene_is_scored_in_the_precision_that_was_asked_for(
    precision, repository, backscatter, write_raster, tmp_path, capsys
) -> None:
    """Provenance names precision and weights, and a pixel without data has no answer in any precision."""
    values = backscatter(70, 90)
    values[:, 20:30, 40:60] = np.nan
    scene = write_raster(tmp_path / "scene.tif", values)
    options = ["--precision", precision, "--model-repository", str(repository), "--quiet", "--json"]
    assert main(["flood", str(scene), "-o", str(tmp_path / "out"), *options]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["provenance"]["precision"] == precision
    assert result["provenance"]["sha256"] == load_model("flood", repository, precision).sha256
    assert result["scene"]["valid_fraction"] == pytest.approx(1 - 200 / 6300)


def run(*arguments):
    """Run `tocsin export ARGUMENTS` as the command line does, errors raised."""
    command = as_command(commands.app, "export")
    with command.make_context("export", [str(each) for each in arguments]) as context:
        command.invoke(context)


def test_precision_alone_from_the_command_line(tiny_repository, capsys) -> None:
    """One precision is made and shown with its gate; `tocsin models` shows it afterwards."""
    run("precision", "flood", "--precision", "int8", "--model-repository", tiny_repository)
    said = capsys.readouterr().out
    assert "1/model.int8.onnx" in said
    assert "kept in fp32: none" in said
    assert load_model("flood", tiny_repository).manifest.precisions == ("fp32", "int8")
    assert main(["models", "flood", "--model-repository", str(tiny_repository)]) == 0
    said = capsys.readouterr().out
    assert "against fp32" in said
    assert "noise" in said
    assert main(["models", "--model-repository", str(tiny_repository), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["models"]
    assert [gate["precision"] for gate in found["gates"]] == ["fp32", "int8"]
    assert found["gates"][1]["limit_flipped"] == gate.LIMITS["int8"].flipped


def test_an_unknown_precision_is_refused(tiny_repository) -> None:
    """The error names those that exist."""
    with pytest.raises(UsageError, match="fp64"):
        run("precision", "flood", "--precision", "fp64", "--model-repository", tiny_repository)


def test_a_checkpoint_becomes_every_precision(tiny_checkpoint, tiny_graph, tmp_path, monkeypatch) -> None:
    """One command runs graph, parity, precision and repository."""
    monkeypatch.setattr(model, "to_onnx", lambda *_: tiny_graph)
    run("model", tiny_checkpoint, "--model-repository", tmp_path)
    assert verify_model("flood", tmp_path).precisions == ("fp32", "fp16", "int8")
