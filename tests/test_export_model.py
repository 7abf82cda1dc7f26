import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")

from export import flood, model  # noqa: E402 - after the skip: they need torch
from export.chips import simulated  # noqa: E402
from export.parity import ParityChips, TorchReference  # noqa: E402
from tocsin.errors import ModelInvalidError, ProductExistsError  # noqa: E402
from tocsin.manifest import Architecture  # noqa: E402
from tocsin.repository import load_model  # noqa: E402
from training import checkpoints  # noqa: E402


def few_chips(_data):
    """Yield two small batches in place of the full set."""
    chips = np.random.default_rng(0).normal(-15, 6, (2, 2, 32, 64)).astype(np.float32)
    yield ParityChips("whole", {"s1": chips})
    holed = chips.copy()
    holed[0, :, :8] = np.nan
    yield ParityChips("holes", {"s1": holed})


@pytest.fixture
def _quick(monkeypatch):
    monkeypatch.setattr(flood, "chips", few_chips)


@pytest.mark.usefixtures("_quick")
def test_a_checkpoint_becomes_a_model(tiny_checkpoint, tiny_graph, checkpoint_facts, tmp_path) -> None:
    """One call writes the graph, its parity and the facts of the checkpoint, and the model loads."""
    manifest = model.export_model(tiny_checkpoint, tmp_path / "models", None, precisions=())

    loaded = load_model("flood", tmp_path / "models")
    assert loaded.manifest == manifest
    assert loaded.path.read_bytes() == tiny_graph
    assert (manifest.version, manifest.threshold) == (checkpoint_facts.version, checkpoint_facts.threshold)
    assert manifest.training == checkpoint_facts.training
    assert manifest.metrics == checkpoint_facts.metrics
    (artifact,) = manifest.artifacts
    assert [row.case for row in artifact.parity.rows] == ["whole", "holes"]
    assert artifact.parity.reference == "torch"
    assert artifact.parity.rows[1].valid_pixels == 2 * 32 * 64 - 8 * 64


@pytest.mark.usefixtures("_quick")
def test_the_same_checkpoint_gives_the_same_folder(tiny_checkpoint, tmp_path) -> None:
    """Exporting again gives every file byte for byte."""
    for name in ("a", "b"):
        model.export_model(tiny_checkpoint, tmp_path / name, None, precisions=())
    for path in (tmp_path / "a").rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


@pytest.mark.usefixtures("_quick")
def test_over_a_limit_nothing_is_written(tiny_checkpoint, tmp_path, monkeypatch) -> None:
    """A graph that differs from its network is refused, and the repository does not even exist."""
    run = TorchReference.run
    monkeypatch.setattr(
        TorchReference, "run", lambda self, inputs: {name: 0.99 * each for name, each in run(self, inputs).items()}
    )
    with pytest.raises(ModelInvalidError, match="difference"):
        model.export_model(tiny_checkpoint, tmp_path / "models", None, precisions=())
    assert not (tmp_path / "models").exists()


def test_an_existing_model_is_kept_before_any_work(tiny_checkpoint, tiny_repository, monkeypatch) -> None:
    """Without overwrite nothing is traced and nothing is written."""

    def never(*_args):
        raise AssertionError("traced")

    monkeypatch.setattr(model, "to_onnx", never)
    with pytest.raises(ProductExistsError):
        model.export_model(tiny_checkpoint, tiny_repository, None)


def test_the_small_graph_passes_on_every_simulated_chip(tiny_checkpoint, tiny_graph) -> None:
    """The full simulated set is within the limits, though the network decides both ways."""
    prepared = model.prepare(tiny_checkpoint)
    (water,) = TorchReference(prepared.module, prepared.facts).run({"s1": simulated(1, (256, 256))[None]}).values()
    assert 0.02 < np.mean(water >= 0.5) < 0.98

    parity = model.parity_of(tiny_graph, prepared, None)

    assert parity.max_difference <= 1e-4
    assert parity.flipped_fraction <= 1e-4
    assert all(row.same_nan for row in parity.rows)
    assert len(parity.rows) >= 10


@pytest.mark.data
def test_the_small_graph_passes_on_real_chips(tiny_checkpoint, tiny_graph, data) -> None:
    """So is the real set, holes of NaN and chips of nothing but NaN included."""
    parity = model.parity_of(tiny_graph, model.prepare(tiny_checkpoint), data)
    real = [row for row in parity.rows if row.case.startswith("real")]
    assert len(real) >= 5
    assert any(row.valid_pixels == 0 for row in real)


def test_a_graph_of_other_weights_is_refused(tiny_weights, checkpoint_facts, tiny_graph, tmp_path, monkeypatch) -> None:
    """Parity notices when graph and checkpoint are not of one network."""
    monkeypatch.setattr(flood, "chips", few_chips)
    other = {name: 1.5 * tensor if name.endswith("weight") else tensor for name, tensor in tiny_weights.items()}
    checkpoints.save(tmp_path / "other.safetensors", other, checkpoint_facts)
    with pytest.raises(ModelInvalidError, match="difference"):
        model.parity_of(tiny_graph, model.prepare(tmp_path / "other.safetensors"), None)


def test_a_checkpoint_without_metrics_is_refused(tiny_weights, checkpoint_facts, tmp_path) -> None:
    """No model is shipped without figures beside a baseline."""
    checkpoints.save(tmp_path / "m.safetensors", tiny_weights, checkpoint_facts.model_copy(update={"metrics": ()}))
    with pytest.raises(ModelInvalidError, match="without metrics"):
        model.prepare(tmp_path / "m.safetensors")


def test_weights_of_another_network_are_refused(tiny_weights, checkpoint_facts) -> None:
    """Weights that do not fit the network that the checkpoint describes say so."""
    with pytest.raises(ModelInvalidError, match="do not fit"):
        flood.module(checkpoint_facts, dict(list(tiny_weights.items())[:-1]))


def test_a_flood_checkpoint_without_normalisation_is_refused(tiny_weights, checkpoint_facts) -> None:
    """Backscatter has to be scaled; only phase needs no normalisation."""
    with pytest.raises(ModelInvalidError, match="normalisation"):
        flood.module(checkpoint_facts.model_copy(update={"normalisation": None}), tiny_weights)


def test_a_wrong_parameter_count_is_refused(tiny_weights, checkpoint_facts) -> None:
    """The count in the manifest is the network's own."""
    said = checkpoint_facts.architecture.model_dump() | {"parameters": 1}
    facts = checkpoint_facts.model_copy(update={"architecture": Architecture.model_validate(said)})
    with pytest.raises(ModelInvalidError, match="parameters"):
        flood.module(facts, tiny_weights)


def test_attribution_names_sentinel_and_every_data_set_once(checkpoint_facts, model_facts) -> None:
    """Whoever shares the weights finds in one text what has to be said."""
    (source,) = checkpoint_facts.training.data
    twice = checkpoint_facts.training.model_copy(update={"data": (source, source)})
    facts = flood.facts(checkpoint_facts.model_copy(update={"training": twice}))
    assert facts.attribution == model_facts.attribution
    assert "Copernicus Sentinel" in facts.attribution
    assert facts.attribution.count(source.attribution) == 1


def test_facts_follow_the_contract(model_facts) -> None:
    """Input and output of the flood model are those that every client relies on."""
    (s1,), (water,) = model_facts.inputs, model_facts.outputs
    assert (s1.name, s1.bands, s1.unit, s1.shape) == ("s1", ("VV", "VH"), "dB", (2, -1, -1))
    assert (water.name, water.unit, water.shape) == ("water", "1", (1, -1, -1))
    assert (model_facts.chip_px, model_facts.multiple_of, model_facts.gsd_m) == (512, 32, (7.0, 15.0))
    assert json.loads(model_facts.to_metadata()["inputs"])[0]["normalisation"]["low"] == [-40.0, -45.0]
