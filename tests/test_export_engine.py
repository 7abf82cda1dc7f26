"""Engines are built whole or not at all: with the real TensorRT for RTX, and gated on a fake card."""

import errno
import json
import os

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra train")

from export import commands, engine, flood
from export.engine import EngineOptions, build_engine, exam_cases, gate, least_half, limits_of, tolerances
from export.parity import ParityChips
from tocsin.cli.registry import as_command
from tocsin.engines import Engine, EngineRecord, find_engine, list_engines
from tocsin.errors import (
    ModelInvalidError,
    ModelUnknownError,
    ProductExistsError,
    RuntimeUnavailableError,
    StorageFullError,
    UsageError,
)
from tocsin.repository import list_models, load_model, read_manifest
from tocsin.runtimes import RuntimeOptions
from tocsin.runtimes.onnx import OnnxRuntime
from tocsin.runtimes.tensorrt import Surface

ADA = EngineOptions(compute_capability=("8.9",))


@pytest.fixture(autouse=True)
def _small_chips(monkeypatch, tmp_path, request):
    """Give two small chips, with holes, to exam and gate, and one that no engine of the small model takes."""
    monkeypatch.setenv("TOCSIN_STATE", str(tmp_path / "state"))
    if request.node.get_closest_marker("slow"):
        return

    def chips(data):
        rng = np.random.default_rng(3)
        for batch, size in ((1, 32), (2, 64), (1, 96)):
            values = rng.uniform(-30, 0, (batch, 2, size, size)).astype(np.float32)
            values[:, :, :3] = np.nan
            yield ParityChips(f"{'real' if data else 'simulated'}, {batch} x {size}", {"s1": values})

    monkeypatch.setattr(flood, "chips", chips)


@pytest.fixture(scope="module")
def model(convolving_models):
    """Return the small model in FP16."""
    return load_model("flood", convolving_models, "fp16")


@pytest.fixture
def rtx():
    """Return TensorRT for RTX."""
    return pytest.importorskip("tensorrt_rtx", reason="needs the extra tensorrt-rtx")


@pytest.fixture
def without_card(monkeypatch):
    """Hide the card of this machine, if it has one."""
    monkeypatch.setattr(engine, "_cuda", lambda _: None)


def run(*arguments):
    """Run `tocsin export ARGUMENTS` as the command line does, errors raised."""
    command = as_command(commands.app, "export")
    with command.make_context("export", [str(each) for each in arguments]) as context:
        command.invoke(context)


def test_an_engine_is_written_whole(rtx, model, tmp_path, without_card) -> None:
    """Plan, exam and record lie in a folder named after the key; without a card the gate is still to come."""
    built = build_engine(model, tmp_path, ADA, None, overwrite=False)

    assert sorted(path.name for path in built.folder.iterdir()) == ["engine.json", "engine.plan", "exam.npz"]
    assert list((tmp_path / "flood").iterdir()) == [built.folder]
    key = built.record.key
    assert (key.graph_sha256, key.tensorrt, key.capabilities) == (model.sha256, rtx.__version__, ("8.9",))
    assert built.folder.name == key.id
    assert built.record.layers.half_share == 1.0
    assert built.record.parity is None
    assert list(list_engines("flood", tmp_path)) == [built]
    assert len(built.plan()) == built.record.plan.bytes


def test_its_exam_is_what_onnx_runtime_says(rtx, model, tmp_path, without_card) -> None:
    """The exam holds the chips that the engine takes with the FP32 graph's answers; the FP16 graph passes it."""
    built = build_engine(model, tmp_path, ADA, None, overwrite=False)
    cases = built.exam()
    assert [case.inputs["s1"].shape for case in cases] == [(1, 2, 32, 32), (2, 2, 64, 64)]
    with OnnxRuntime(model.folder / "1/model.onnx", RuntimeOptions()) as reference:
        for case in cases:
            np.testing.assert_array_equal(case.answers["water"], reference.run(case.inputs)["water"])
            assert np.isnan(case.answers["water"]).any()


def test_an_exam_is_small(model, monkeypatch) -> None:
    """Chips are added, smallest first, as long as they are few bytes together; one is always there."""
    monkeypatch.setattr(engine, "EXAM_BYTES", 1)
    profile = engine.input_ranges(model.manifest, 8)
    assert [case.inputs["s1"].shape for case in exam_cases(model, profile)] == [(1, 2, 32, 32)]


def test_an_existing_engine_needs_overwrite(rtx, model, tmp_path, without_card) -> None:
    """The same key is refused before any work unless it is to be replaced; another batch is another engine."""
    built = build_engine(model, tmp_path, ADA, None, overwrite=False)
    with pytest.raises(ProductExistsError, match=built.record.key.id):
        build_engine(model, tmp_path, ADA, None, overwrite=False)
    assert build_engine(model, tmp_path, ADA, None, overwrite=True).folder == built.folder
    other = build_engine(model, tmp_path, ADA.model_copy(update={"max_batch": 2}), None, overwrite=False)
    assert other.record.key.profile[0].largest == (2, 2, 64, 64)


@pytest.mark.parametrize(("number", "expected"), [(errno.ENOSPC, StorageFullError), (errno.EACCES, UsageError)])
def test_a_failed_write_leaves_nothing(rtx, model, tmp_path, without_card, monkeypatch, number, expected) -> None:
    """When the folder cannot be put in place, nothing lies there or beside it."""

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(engine, "put", refuse)
    with pytest.raises(expected, match=os.strerror(number)):
        build_engine(model, tmp_path, ADA, None, overwrite=False)
    assert list((tmp_path / "flood").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "given"),
    [
        (EngineOptions(hardware="ampere-plus"), "--hardware"),
        (EngineOptions(version_compatible=True), "--version-compatible"),
        (EngineOptions(flavour="datacenter", compute_capability=("8.9",)), "--compute-capability"),
    ],
)
def test_options_of_the_other_flavour_are_refused(model, tmp_path, options, given) -> None:
    """What a flavour cannot do is refused, not left out."""
    with pytest.raises(UsageError, match=given):
        build_engine(model, tmp_path, options, None, overwrite=False)


def test_the_data_centre_needs_a_card(model, tmp_path, monkeypatch, fake_tensorrt) -> None:
    """An engine for this host's card cannot be built where there is none."""

    def refuse():
        raise RuntimeUnavailableError("CUDA without a card", "a card", "plug one in")

    monkeypatch.setattr(engine, "load_tensorrt", lambda _: fake_tensorrt)
    monkeypatch.setattr(engine, "CudaRuntime", refuse)
    with pytest.raises(RuntimeUnavailableError, match="without a card"):
        build_engine(model, tmp_path, EngineOptions(flavour="datacenter"), None, overwrite=False)


@pytest.fixture
def on_a_card(monkeypatch, model, fake_tensorrt, fake_cuda):
    """Put fakes of card, TensorRT and builder in place: the plan is the graph."""
    from tocsin.engines import LayerCount

    layers = LayerCount(floating=6, half=3, heavy=2, heavy_half=2)
    monkeypatch.setattr(engine, "load_tensorrt", lambda _: fake_tensorrt)
    monkeypatch.setattr(engine, "CudaRuntime", lambda: fake_cuda)
    monkeypatch.setattr(engine, "parse", lambda *_: type("Parsed", (), {"layers": layers}))
    monkeypatch.setattr(engine, "build", lambda *_: model.path.read_bytes())
    return fake_tensorrt


def test_on_a_card_the_gate_comes_first(on_a_card, model, tmp_path) -> None:
    """Where there is a card the engine is compared on real and simulated chips, and the figures are in its record."""
    built = build_engine(model, tmp_path, EngineOptions(flavour="datacenter"), tmp_path, overwrite=False)
    parity = built.record.parity
    assert [row.case for row in parity.rows] == ["real, 1 x 32", "real, 2 x 64"]
    assert parity.reference == "onnx"
    assert 0 < parity.max_difference <= parity.limit_difference == 2e-3
    assert built.record.key.capabilities == ("8.9",)
    assert find_engine(model, "datacenter", on_a_card.__version__, on_a_card.cuda.card(), tmp_path) == built
    assert EngineRecord.model_validate_json((built.folder / "engine.json").read_text()) == built.record


def test_over_a_limit_nothing_is_written(on_a_card, model, tmp_path) -> None:
    """An engine that computes wrongly on this card is refused, and its folder is gone."""
    on_a_card.gain = 1.02
    with pytest.raises(ModelInvalidError, match="failed its exam"):
        build_engine(model, tmp_path, EngineOptions(flavour="datacenter"), None, overwrite=False)
    assert list((tmp_path / "flood").iterdir()) == []


def test_a_card_that_it_is_not_for_is_no_gate(on_a_card, model, tmp_path) -> None:
    """An engine for RTX cards that is built beside another card is not tried on that."""
    built = build_engine(model, tmp_path, EngineOptions(compute_capability=("8.6", "12.0")), None, overwrite=False)
    assert built.record.parity is None


def test_the_gate_counts_decisions(fake_engine, fake_tensorrt, fake_cuda, model, monkeypatch) -> None:
    """Differences below the exam's tolerance still count as flips where they cross the threshold."""
    found = fake_engine()
    lax = Engine(found.folder, found.record.model_copy(update={"tolerances": {"water": 1.0}}))
    fake_tensorrt.gain = 0.5
    with pytest.raises(ModelInvalidError, match=r"engine of flood on Fake RTX against onnx"):
        gate(lax, model, Surface(fake_tensorrt, fake_cuda), None)


def test_limits_are_those_of_the_graph(model) -> None:
    """An engine has to keep what its graph had to keep in the manifest, outputs in a unit of their own included."""
    limits = limits_of(model)
    assert (limits.difference, limits.flipped) == (2e-3, 5e-3)
    assert tolerances(model) == {"water": 2e-3}

    parity = model.artifact.parity
    row = parity.rows[0].model_copy(update={"limit_difference": 3.0, "limit_flipped": 0.25})
    artifact = model.artifact.model_copy(update={"parity": parity.model_copy(update={"rows": (row,)})})
    own = type(model)(model.manifest, model.folder, artifact)
    assert tolerances(own) == {"water": 3.0}
    assert limits_of(own).outputs["water"].flipped == 0.25


def test_layers_that_the_gate_kept_need_not_be_half(model) -> None:
    """All heavy layers have to be half but those that the manifest names; half of them whatever it names."""

    def least(layers, kept):
        artifact = model.artifact.model_copy(update={"layers": layers, "kept_fp32": ("node",) * kept})
        return least_half(type(model)(model.manifest, model.folder, artifact))

    assert least(20, 0) == 1.0
    assert least(20, 1) == 0.95
    assert least(20, 15) == 0.5
    assert least(None, 0) == 0.5


def test_command_builds_and_describes(rtx, convolving_models, tmp_path, capsys, without_card) -> None:
    """`tocsin export engine` says where the engine is, what it is for, and what is half; --json is the record."""
    arguments = ["engine", "flood", "--model-repository", convolving_models, "-o", tmp_path]
    run(*arguments, "--compute-capability", "8.9", "--compute-capability", "12.0")
    printed = capsys.readouterr().out
    assert str(tmp_path / "flood") in printed
    assert "compute capability 8.9 12.0" in printed
    assert "2 of 2 convolutions and matrix products in half (100.0%)" in " ".join(printed.split())
    assert "sits its exam" in printed

    run(*arguments, "--precision", "fp32", "--compute-capability", "8.9", "--json")
    payload = json.loads(capsys.readouterr().out)
    assert EngineRecord.model_validate(payload["record"]).key.precision == "fp32"
    with pytest.raises(ModelUnknownError, match="volcano"):
        run("engine", "volcano", "--model-repository", convolving_models, "-o", tmp_path)
    with pytest.raises(UsageError, match="--flavour"):
        run(*arguments, "--flavour", "jetson")


def test_command_describes_the_gate(on_a_card, convolving_models, tmp_path, capsys, monkeypatch) -> None:
    """On a card the table of the gate is printed; without -o the engine is built where scoring looks."""
    monkeypatch.delenv("TOCSIN_DATA", raising=False)
    run("engine", "flood", "--model-repository", convolving_models, "--flavour", "datacenter")
    printed = capsys.readouterr().out
    assert "simulated, 2 x 64" in printed
    assert "limit 0.002" in printed
    assert str(tmp_path / "state" / "engines" / "flood") in printed


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
def test_every_shipped_model_has_an_engine(rtx, name, tmp_path, without_card) -> None:
    """Each shipped FP16 graph becomes one engine for every RTX card from Ampere on, without a card."""
    if "fp16" not in read_manifest(name).precisions:
        pytest.skip(f"{name} has no fp16")
    model = load_model(name, precision="fp16")
    built = build_engine(model, tmp_path, EngineOptions(), None, overwrite=False)
    assert built.record.key.capabilities == engine.RTX_CAPABILITIES
    assert built.record.layers.half_share >= least_half(model)
    assert built.record.plan.bytes < 2 * model.artifact.bytes + (8 << 20)
    assert any(np.isnan(array).any() for case in built.exam() for array in case.inputs.values())
