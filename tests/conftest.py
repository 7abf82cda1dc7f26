"""Data sets, a small model, markers that skip with a reason, and an environment without the developer's settings."""

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent


# The first: others import from it, and a plugin must be known before it is imported.
pytest_plugins = (
    "stand_ins",
    "engine_stand_ins",
    "job_stand_ins",
    "triton_stand_ins",
    "service_stand_ins",
    "client_stand_ins",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --fast."""
    parser.addoption("--fast", action="store_true", help="skip tests marked slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run, and say why."""
    reasons = {
        "data": None if _data_folder() else "TOCSIN_DATA does not name the folder of the data sets",
        "gpu": None if Path("/dev/nvidia0").exists() else "there is no CUDA device",
        "slow": "--fast was given" if config.getoption("--fast") else None,
        "triton": None
        if find_spec("pytriton") and np.__version__ < "2"
        else "needs the triton extra and numpy below 2",
    }
    for item in items:
        for marker, reason in reasons.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def _own_settings_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide every TOCSIN_* variable of the developer but the data sets."""
    for name in os.environ:
        if name.startswith("TOCSIN_") and name != "TOCSIN_DATA":
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def root() -> Path:
    """Root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of the public data sets; skips without TOCSIN_DATA."""
    folder = _data_folder()
    if folder is None:
        pytest.skip("TOCSIN_DATA does not name the folder of the data sets")
    return folder


@pytest.fixture(scope="session")
def sen1floods11(data: Path) -> Path:
    """Folder that holds S1Hand/ and LabelHand/ of Sen1Floods11."""
    folder = data / "sen1floods11/v1.1/data/flood_events/HandLabeled"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder


@pytest.fixture(scope="session")
def checkpoint_facts():
    """Return the facts of a checkpoint with a network of two stages and 3,000 parameters."""
    pytest.importorskip("torch", reason="needs the extra train")
    from tocsin.manifest import Architecture, Calibration, DataSource, MetricRow, Normalisation, Training
    from training import preprocess
    from training.checkpoints import CheckpointFacts
    from training.networks import NetworkConfig, build, parameter_count

    config = NetworkConfig(widths=(4, 8))
    return CheckpointFacts(
        hazard="flood",
        name="flood",
        version="1.2.3",
        architecture=Architecture(
            name="U-Net", parameters=parameter_count(build(config)), config=config.model_dump(mode="json")
        ),
        normalisation=Normalisation(
            low=preprocess.LOW_DB, high=preprocess.HIGH_DB, mean=(-11.25, -18.5), std=(4.75, 5.75)
        ),
        calibration=Calibration(kind="temperature", temperature=1.5, bias=-0.25, data="one event held out"),
        threshold=0.5,
        training=Training(
            data=(DataSource(name="simulation", chips=0, licence="Apache-2.0", attribution="Simulated by tocsin."),),
            seed=7,
            recipe={"name": "tiny", "steps": 0, "rate": 0.5},
        ),
        metrics=(
            MetricRow(
                dataset="simulation",
                split="seeds kept back",
                metric="IoU water, pooled over pixels",
                value=0.75,
                baseline_name="Otsu on VH",
                baseline_value=0.5,
                n=4,
                command="tocsin evaluate flood --data simulated",
            ),
        ),
        tocsin="0.1.0",
    )


@pytest.fixture(scope="session")
def tiny_weights(checkpoint_facts):
    """Return the weights of that network: random, with logits of a few units so that decisions differ."""
    import torch

    from training.networks import NetworkConfig, build

    torch.manual_seed(3)
    network = build(NetworkConfig.model_validate(checkpoint_facts.architecture.config))
    weights = network.state_dict()
    for name, tensor in weights.items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif tensor.is_floating_point():
            tensor.add_(0.2 * torch.randn_like(tensor))
    return weights


@pytest.fixture(scope="session")
def tiny_checkpoint(checkpoint_facts, tiny_weights, tmp_path_factory):
    """Return the path of a checkpoint file of that network."""
    from training import checkpoints

    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    checkpoints.save(path, tiny_weights, checkpoint_facts)
    return path


@pytest.fixture(scope="session")
def model_facts(checkpoint_facts):
    """Return the manifest's facts of that checkpoint."""
    from export import flood

    return flood.facts(checkpoint_facts)


@pytest.fixture(scope="session")
def tiny_graph(tiny_checkpoint):
    """Return the checkpoint's graph: the bytes of an ONNX file."""
    from export.graph import to_onnx
    from export.model import prepare

    prepared = prepare(tiny_checkpoint)
    return to_onnx(prepared.module, prepared.facts)


@pytest.fixture(scope="session")
def passing_parity():
    """Return parity figures within their limits."""
    from tocsin.manifest import Parity, ParityRow

    row = ParityRow(
        case="simulated",
        output="water",
        shape=(1, 1, 32, 32),
        valid_pixels=1024,
        max_difference=6e-8,
        flipped_pixels=0,
        same_nan=True,
    )
    return Parity(reference="torch", limit_difference=1e-4, limit_flipped=1e-4, rows=(row,))


@pytest.fixture
def tiny_repository(tmp_path, model_facts, tiny_graph, passing_parity):
    """Return a repository of its own for each test, with the small model under the name flood."""
    from export.repository import GraphFile, write

    repository = tmp_path / "models"
    write(repository, model_facts, [GraphFile("fp32", tiny_graph, 20, passing_parity)])
    return repository


def _data_folder() -> Path | None:
    named = os.environ.get("TOCSIN_DATA")
    folder = Path(named).resolve() if named else None
    return folder if folder is not None and folder.is_dir() else None
