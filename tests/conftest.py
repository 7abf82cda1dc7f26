"""Data sets, a small model, markers that skip with a reason, and an environment without the developer's settings."""

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent


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


# Scoring with a graph whose answer is known: water where VH is below -21 dB, pixel by pixel.


def logistic_graph():
    """Return an ONNX graph that answers 1 / (1 + exp(VH + 21)); NaN propagates through it."""
    import numpy as np

    helper = pytest.importorskip("onnx.helper", reason="needs the extra train")
    from onnx import TensorProto, numpy_helper

    nodes = [
        helper.make_node("Gather", ["s1", "vh"], ["band"], axis=1),
        helper.make_node("Add", ["band", "level"], ["above"]),
        helper.make_node("Neg", ["above"], ["below"]),
        helper.make_node("Sigmoid", ["below"], ["water"]),
    ]
    constants = [
        helper.make_tensor("vh", TensorProto.INT64, [1], [1]),
        numpy_helper.from_array(np.array([21], np.float32), "level"),
    ]
    size = ["height", "width"]
    graph = helper.make_graph(
        nodes,
        "logistic",
        [helper.make_tensor_value_info("s1", TensorProto.FLOAT, ["batch", 2, *size])],
        [helper.make_tensor_value_info("water", TensorProto.FLOAT, ["batch", 1, *size])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return model.SerializeToString()


def logistic_manifest(content):
    """Return the manifest of that graph."""
    import hashlib

    from tocsin.manifest import (
        Architecture,
        Artifact,
        Calibration,
        DataSource,
        Manifest,
        MetricRow,
        Parity,
        ParityRow,
        TensorSpec,
        Training,
    )

    row = ParityRow(
        case="none",
        output="water",
        shape=(1, 2, 32, 32),
        valid_pixels=0,
        max_difference=0,
        flipped_pixels=0,
        same_nan=True,
    )
    return Manifest(
        name="flood",
        hazard="flood",
        version="0.0.1",
        description="Logistic in VH, for tests.",
        architecture=Architecture(name="logistic", parameters=1, config={}),
        inputs=(TensorSpec(name="s1", description="Backscatter", bands=("VV", "VH"), unit="dB", shape=(2, -1, -1)),),
        outputs=(TensorSpec(name="water", description="P(water)", bands=("water",), unit="1", shape=(1, -1, -1)),),
        chip_px=64,
        multiple_of=32,
        gsd_m=(7.0, 15.0),
        threshold=0.5,
        calibration=Calibration(kind="none"),
        licence="Apache-2.0",
        attribution="Made by a test.",
        training=Training(
            data=(DataSource(name="none", chips=0, licence="Apache-2.0", attribution="none"),), seed=0, recipe={}
        ),
        metrics=(
            MetricRow(
                dataset="none",
                split="none",
                metric="none",
                value=0,
                baseline_name="none",
                baseline_value=0,
                n=1,
                command="none",
            ),
        ),
        artifacts=(
            Artifact(
                path="1/model.onnx",
                sha256=hashlib.sha256(content).hexdigest(),
                bytes=len(content),
                precision="fp32",
                opset=17,
                parity=Parity(reference="itself", limit_difference=1e-4, limit_flipped=1e-4, rows=(row,)),
            ),
        ),
        files=(),
    )


@pytest.fixture(scope="session")
def logistic_models(tmp_path_factory):
    """Return a repository with that graph under the name flood, chips of 64 px."""
    repository = tmp_path_factory.mktemp("models")
    content = logistic_graph()
    (repository / "flood" / "1").mkdir(parents=True)
    (repository / "flood" / "1" / "model.onnx").write_bytes(content)
    (repository / "flood" / "manifest.json").write_text(logistic_manifest(content).to_json())
    return repository


@pytest.fixture
def backscatter():
    """Return a function that makes a scene [2, height, width] in dB: a block of water in land, no speckle."""
    import numpy as np

    def make(height, width, water=(slice(None), slice(0, 40))):
        values = np.empty((2, height, width), np.float32)
        values[:] = np.array((-10.0, -16.0), np.float32)[:, None, None]
        values[:, *water] = np.array((-18.0, -26.0), np.float32)[:, None, None]
        return values

    return make


@pytest.fixture
def write_raster():
    """Return a function that writes float32 [band, height, width] as a GeoTIFF with NaN as no data, 10 m in UTM."""
    import rasterio
    from affine import Affine

    def write(path, values, *, crs="EPSG:32630", transform=None, **tags):
        path.parent.mkdir(parents=True, exist_ok=True)
        profile = {"driver": "GTiff", "dtype": "float32", "count": len(values), "nodata": float("nan")}
        profile |= {"height": values.shape[1], "width": values.shape[2], "crs": crs}
        profile["transform"] = transform or Affine(10.0, 0.0, 5e5, 0.0, -10.0, 4.4e6)
        with rasterio.open(path, "w", **profile) as raster:
            raster.write(values)
            if len(values) == 2:
                raster.descriptions = ("VV", "VH")
            raster.update_tags(**tags)
        return path

    return write


@pytest.fixture
def score_flood(logistic_models, tmp_path):
    """Return a function that scores a scene with that model, by default into a folder `out` of the test."""
    import tocsin

    def score(post, out=tmp_path / "out", **named):
        named.setdefault("model_repository", logistic_models)
        return tocsin.score("flood", post=post, out=out, quiet=True, **named)

    return score


# A volcano model whose answer is known: a pixel deforms as its phase is large.


def size_graph():
    """Return an ONNX graph that answers |phase| / pi for a pixel, and the largest of these for the chip."""
    helper = pytest.importorskip("onnx.helper", reason="needs the extra train")
    from onnx import TensorProto, numpy_helper

    nodes = [
        helper.make_node("Abs", ["phase"], ["size"]),
        helper.make_node("Mul", ["size", "share"], ["mask"]),
        helper.make_node("IsNaN", ["mask"], ["missing"]),
        helper.make_node("Where", ["missing", "nothing", "mask"], ["known"]),
        helper.make_node("ReduceMax", ["known"], ["top"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["top", "last"], ["deformation"]),
        helper.make_node("MatMul", ["deformation", "zeros"], ["no_source"]),
        helper.make_node("Add", ["no_source", "shares"], ["source"]),
    ]
    constants = [
        numpy_helper.from_array(np.float32(1 / np.pi), "share"),
        numpy_helper.from_array(np.float32(0), "nothing"),
        numpy_helper.from_array(np.array([1], np.int64), "last"),
        numpy_helper.from_array(np.zeros((1, 6), np.float32), "zeros"),
        numpy_helper.from_array(np.array([0.1, 0.5, 0.1, 0.1, 0.1, 0.1], np.float32), "shares"),
    ]
    image = ["batch", 1, "height", "width"]
    outputs = {"deformation": ["batch", 1], "source": ["batch", 6], "mask": image}
    made = helper.make_graph(
        nodes,
        "size",
        [helper.make_tensor_value_info("phase", TensorProto.FLOAT, image)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        constants,
    )
    opset = helper.make_opsetid("", 17)
    return helper.make_model(made, opset_imports=[opset], ir_version=9).SerializeToString()


@pytest.fixture(scope="session")
def volcano_models(tmp_path_factory, logistic_models):
    """Return a repository with that graph under the name volcano, chips of 64 px."""
    import hashlib
    import json

    from tocsin.hazards.volcano import SOURCES

    repository = tmp_path_factory.mktemp("volcano_models")
    content = size_graph()
    facts = json.loads((logistic_models / "flood" / "manifest.json").read_text())
    outputs = {"deformation": (["deformation"], [1]), "source": (list(SOURCES), [6]), "mask": (["mask"], [1, -1, -1])}
    spec = {"description": "known", "unit": "1"}
    facts |= {"name": "volcano", "hazard": "volcano", "chip_px": 64, "gsd_m": [80.0, 350.0]}
    facts["inputs"] = [spec | {"name": "phase", "bands": ["phase"], "unit": "rad", "shape": [1, -1, -1]}]
    facts["outputs"] = [
        spec | {"name": name, "bands": bands, "shape": shape} for name, (bands, shape) in outputs.items()
    ]
    facts["artifacts"][0] |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (repository / "volcano" / "1").mkdir(parents=True)
    (repository / "volcano" / "1" / "model.onnx").write_bytes(content)
    (repository / "volcano" / "manifest.json").write_text(json.dumps(facts))
    return repository
