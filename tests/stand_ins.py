"""Models whose answers are known, repositories that hold them, and scenes to score with them; conftest loads this."""

import hashlib
import json
from datetime import UTC, datetime

import numpy as np
import pytest

from tocsin.result import FloodSummary, InputFile, Provenance, Resampled, Result, ResultWarning, SceneFacts
from tocsin.runtimes.fake import FakeRuntime


class Memory:
    """A source in memory, one band."""

    def __init__(self, grid, values):
        self.grid = grid
        self.values = np.asarray(values, dtype=np.float32)

    def read(self, window):
        """Return a window, NaN outside."""
        rows, cols = np.ogrid[window.row : window.row_stop, window.col : window.col_stop]
        height, width = self.values.shape
        inside = (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
        values = self.values[np.clip(rows, 0, height - 1), np.clip(cols, 0, width - 1)]
        return np.where(inside, values, np.float32(np.nan))[None]

    def close(self):
        """Hold nothing."""


class InterruptedRuntime(FakeRuntime):
    """Answers six times, then is interrupted."""

    def run(self, inputs):
        """Answer, or be interrupted."""
        if self.calls == 6:
            raise KeyboardInterrupt
        return super().run(inputs)


HASH = "0" * 64


def make_result(**changes):
    """A result of a flood scoring with every part filled."""
    parts = {
        "hazard": "flood",
        "status": "ok",
        "scene": SceneFacts(
            id="scene",
            crs="EPSG:32630",
            shape=(512, 256),
            bounds=(0.0, 0.0, 2560.0, 5120.0),
            valid_fraction=0.5,
            acquired=datetime(2024, 10, 31, 18, 3, 4, tzinfo=UTC),
        ),
        "products": {"class": "out/scene_class.tif"},
        "summary": FloodSummary(observed_km2=2.0, water_km2=1.0, flood_km2=None, permanent_km2=None, polygons=3),
        "warnings": (ResultWarning(code="acquired_unknown", message="no time"),),
        "provenance": Provenance(
            model="flood",
            version="1.0.0",
            sha256=HASH,
            precision="fp32",
            runtime="onnx",
            device="cpu",
            threshold=0.5,
            tocsin="0.1.0",
            inputs=(InputFile(href="scene.tif", sha256=HASH),),
            resampled=Resampled(from_m=(30.0, 30.0), to_m=(10.0, 10.0), method="linear power"),
            started=datetime(2024, 11, 1, tzinfo=UTC),
            seconds=1.5,
        ),
    }
    return Result(**{**parts, **changes})


# Scoring with a graph whose answer is known: water where VH is below -21 dB, pixel by pixel.


def logistic_graph():
    """Return an ONNX graph that answers 1 / (1 + exp(VH + 21)); NaN propagates through it."""
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


# A landslide model whose answer is known: a pixel slid as its backscatter fell, a chip is the mean of its pixels.

FALL_DB = 6.0
"""Fall of backscatter from which a pixel slid for certain; half of it is a probability of 0.5."""
MOST_PER_KM2 = 60.0
"""Density of a chip that slid everywhere."""


def fall_graph():
    """Return an ONNX graph: mask = (mean before - mean after) / 6 dB over what is there, 0 to 1, NaN where nothing is.

    With m the mean of the mask over its valid pixels, P(any) is m, P(high) is m squared, and density 60 m.
    """
    helper = pytest.importorskip("onnx.helper", reason="needs the extra train")
    from onnx import TensorProto, numpy_helper

    constants = {
        "nothing": np.float32(0),
        "fall": np.float32(FALL_DB),
        "most": np.float32(MOST_PER_KM2),
        "one": np.float32(1),
        "layers": np.array([1, 2], np.int64),
        "pixels": np.array([1, 2, 3], np.int64),
        "band": np.array([1], np.int64),
    }

    def mean(name, axes, *, keepdims):
        """Nodes of a mean of what is not NaN: 0 / 0 is NaN where nothing is."""
        return [
            helper.make_node("IsNaN", [name], [f"{name}_gap"]),
            helper.make_node("Where", [f"{name}_gap", "nothing", name], [f"{name}_known"]),
            helper.make_node("Not", [f"{name}_gap"], [f"{name}_there"]),
            helper.make_node("Cast", [f"{name}_there"], [f"{name}_one"], to=TensorProto.FLOAT),
            helper.make_node("ReduceSum", [f"{name}_known", axes], [f"{name}_sum"], keepdims=keepdims),
            helper.make_node("ReduceSum", [f"{name}_one", axes], [f"{name}_count"], keepdims=keepdims),
            helper.make_node("Div", [f"{name}_sum", f"{name}_count"], [f"{name}_mean"]),
        ]

    nodes = [
        *mean("pre", "layers", keepdims=0),
        *mean("post", "layers", keepdims=0),
        helper.make_node("Sub", ["pre_mean", "post_mean"], ["fell"]),
        helper.make_node("Div", ["fell", "fall"], ["part"]),
        helper.make_node("Unsqueeze", ["part", "band"], ["whole"]),
        helper.make_node("Clip", ["whole", "nothing", "one"], ["mask"]),
        *mean("mask", "pixels", keepdims=0),
        helper.make_node("Unsqueeze", ["mask_mean", "band"], ["any"]),
        helper.make_node("Mul", ["any", "any"], ["high"]),
        helper.make_node("Sub", ["any", "high"], ["low"]),
        helper.make_node("Sub", ["one", "any"], ["none"]),
        helper.make_node("Concat", ["none", "low", "high"], ["density_class"], axis=1),
        helper.make_node("Mul", ["any", "most"], ["density"]),
    ]
    shapes = {"pre": [3, 2, 128, 128], "post": [3, 2, 128, 128], "dem": [1, 128, 128]}
    outputs = {"density_class": [3], "density": [1], "mask": [1, 128, 128]}
    graph = helper.make_graph(
        nodes,
        "fall",
        *(
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape]) for name, shape in part.items()]
            for part in (shapes, outputs)
        ),
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opset = helper.make_opsetid("", 17)
    return helper.make_model(graph, opset_imports=[opset], ir_version=9).SerializeToString()


COUNT_ERROR_VALUE = 0.2
"""What that model states as the error of its numbers."""


@pytest.fixture(scope="session")
def landslide_models(tmp_path_factory, logistic_models):
    """Return a repository with that graph under the name landslide."""
    from tocsin.landslide_cells import COUNT_ERROR

    repository = tmp_path_factory.mktemp("landslide_models")
    content = fall_graph()
    facts = json.loads((logistic_models / "flood" / "manifest.json").read_text())
    spec = {"description": "known", "unit": "dB"}
    facts |= {"name": "landslide", "hazard": "landslide", "chip_px": 128}
    facts["metrics"] = [facts["metrics"][0] | {"metric": COUNT_ERROR, "value": COUNT_ERROR_VALUE}]
    facts["inputs"] = [
        spec | {"name": "pre", "bands": ["VV", "VH"], "shape": [3, 2, 128, 128]},
        spec | {"name": "post", "bands": ["VV", "VH"], "shape": [3, 2, 128, 128]},
        spec | {"name": "dem", "bands": ["height"], "unit": "m", "shape": [1, 128, 128], "optional": True},
    ]
    facts["outputs"] = [
        spec | {"name": "density_class", "bands": ["none", "low", "high"], "unit": "1", "shape": [3]},
        spec | {"name": "density", "bands": ["density"], "unit": "1/km2", "shape": [1]},
        spec | {"name": "mask", "bands": ["mask"], "unit": "1", "shape": [1, 128, 128]},
    ]
    facts["artifacts"][0] |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (repository / "landslide" / "1").mkdir(parents=True)
    (repository / "landslide" / "1" / "model.onnx").write_bytes(content)
    (repository / "landslide" / "manifest.json").write_text(json.dumps(facts))
    return repository
