import json
import pickle

import pytest
from pydantic import ValidationError

from tocsin.errors import ModelInvalidError
from tocsin.manifest import Calibration

torch = pytest.importorskip("torch", reason="needs the extra train")
safetensors_torch = pytest.importorskip("safetensors.torch", reason="needs the extra train")

from training import checkpoints  # noqa: E402 - after the skip: it needs torch
from training.checkpoints import METADATA_KEY, CheckpointFacts  # noqa: E402


def test_gives_back_what_was_saved(tiny_checkpoint, tiny_weights, checkpoint_facts) -> None:
    """Facts and every tensor, integers included, come back equal and of the same type."""
    facts, weights = checkpoints.load(tiny_checkpoint)

    assert facts == checkpoint_facts
    assert weights.keys() == tiny_weights.keys()
    for name, tensor in tiny_weights.items():
        assert weights[name].dtype == tensor.dtype
        assert torch.equal(weights[name], tensor)


def test_holds_one_readable_metadata_key(tiny_checkpoint) -> None:
    """The file's own metadata is one key with JSON: anyone can read it without tocsin."""
    with checkpoints.safe_open(tiny_checkpoint, framework="pt") as file:
        metadata = file.metadata()
    assert list(metadata) == [METADATA_KEY]
    assert json.loads(metadata[METADATA_KEY])["normalisation"]["mean"] == [-11.25, -18.5]


def test_the_same_checkpoint_is_the_same_bytes(tmp_path, tiny_checkpoint, tiny_weights, checkpoint_facts) -> None:
    """Saving again changes nothing: no time, no path, no order of memory."""
    again = tmp_path / "deep" / "again.safetensors"
    checkpoints.save(again, dict(reversed(tiny_weights.items())), checkpoint_facts)
    assert again.read_bytes() == tiny_checkpoint.read_bytes()


def test_saves_shared_and_strided_tensors(tmp_path, checkpoint_facts) -> None:
    """Tensors that share memory or lie transposed are written as what they show."""
    base = torch.arange(6.0).reshape(2, 3)
    path = tmp_path / "a.safetensors"
    checkpoints.save(path, {"a": base, "b": base.T, "c": base[0].requires_grad_()}, checkpoint_facts)

    _, weights = checkpoints.load(path)

    assert torch.equal(weights["b"], base.T)
    assert torch.equal(weights["c"], base[0])
    assert not weights["c"].requires_grad


def test_a_failed_save_leaves_the_old_checkpoint(tmp_path, tiny_checkpoint, checkpoint_facts, monkeypatch) -> None:
    """When writing breaks off, the file under the final name is the one before, and nothing else lies beside it."""
    path = tmp_path / "best.safetensors"
    path.write_bytes(tiny_checkpoint.read_bytes())

    def breaks(_tensors, aside, **_kwargs):
        aside.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "save_file", breaks)
    with pytest.raises(OSError, match="No space"):
        checkpoints.save(path, {"a": torch.zeros(1)}, checkpoint_facts)

    assert path.read_bytes() == tiny_checkpoint.read_bytes()
    assert list(tmp_path.iterdir()) == [path]


def test_refuses_a_missing_file(tmp_path) -> None:
    """A path with no file is an error of ours that names it."""
    with pytest.raises(ModelInvalidError, match=r"nowhere\.safetensors"):
        checkpoints.load(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("kind", ["empty", "pickle", "cut"])
def test_refuses_what_is_no_safetensors_file(tmp_path, tiny_checkpoint, kind) -> None:
    """A pickle is never unpickled, and a file cut short is never half a network."""
    whole = tiny_checkpoint.read_bytes()
    content = {"empty": b"", "pickle": pickle.dumps({"weights": [0.0]}), "cut": whole[: len(whole) // 2]}[kind]
    path = tmp_path / "other.ckpt"
    path.write_bytes(content)
    with pytest.raises(ModelInvalidError, match="safetensors"):
        checkpoints.load(path)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "without facts"),
        ({"other": "1"}, "without facts"),
        ({METADATA_KEY: "{"}, "JSON"),
        ({METADATA_KEY: "{}"}, "Field required"),
    ],
    ids=["none", "another key", "no JSON", "no facts"],
)
def test_refuses_weights_without_facts(tmp_path, metadata, message) -> None:
    """Weights of which nobody says what they are cannot be exported."""
    path = tmp_path / "bare.safetensors"
    safetensors_torch.save_file({"a": torch.zeros(1)}, path, metadata=metadata)
    with pytest.raises(ModelInvalidError, match=message):
        checkpoints.load(path)


@pytest.mark.parametrize(
    ("field", "value"), [("threshold", 1.5), ("version", "1"), ("hazard", "meteor"), ("invented", 0)]
)
def test_facts_are_checked(checkpoint_facts, field, value) -> None:
    """A checkpoint cannot be written with facts out of bounds."""
    with pytest.raises(ValidationError, match=field):
        CheckpointFacts.model_validate(checkpoint_facts.model_dump() | {field: value})


def test_keeps_calibrations_of_further_outputs(tmp_path, tiny_weights, checkpoint_facts) -> None:
    """A checkpoint without normalisation and with a calibration per output comes back as it was."""
    mask = Calibration(kind="temperature", temperature=2.0, bias=0.5, data="simulation")
    facts = checkpoint_facts.model_copy(
        update={"hazard": "volcano", "normalisation": None, "output_calibrations": {"mask": mask}}
    )
    checkpoints.save(tmp_path / "v.safetensors", tiny_weights, facts)
    assert checkpoints.load(tmp_path / "v.safetensors")[0] == facts
