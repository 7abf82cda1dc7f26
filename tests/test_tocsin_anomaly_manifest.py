"""A fitted model is believed only as far as its hash goes."""

import hashlib
import json

import pytest

from tocsin.anomaly.manifest import GRAPH, MANIFEST, read_model
from tocsin.errors import ModelInvalidError, ModelUnknownError

HEX = "0" * 64
PARITY = {
    "reference": "numpy",
    "limit_difference": 1e-3,
    "limit_flipped": 0,
    "rows": [
        {
            "case": "fit epochs",
            "output": "score",
            "shape": [1, 1],
            "valid_pixels": 1,
            "max_difference": 0.0,
            "flipped_pixels": 0,
            "same_nan": True,
        }
    ],
}


@pytest.fixture
def model(tmp_path):
    """Write a model folder with a graph of a few bytes; return the folder and its facts."""
    content = b"a graph"
    facts = {
        "tocsin": "0.1.0",
        "series": {
            "id": "a",
            "sha256": HEX,
            "frame": "",
            "shape": [60, 70],
            "lat_deg": [1.0, 0.9],
            "lon_deg": [5.0, 5.1],
        },
        "fit_epochs": [{"date": "2020-01-01", "score": 1.0}, {"date": "2020-01-13", "score": 2.0}],
        "left_out": [],
        "encoder": {"model": "volcano", "version": "1.0.0", "sha256": HEX, "architecture": "tiny"},
        "settings": {},
        "constants": {
            "rad_per_m": -50.0,
            "fill_sigma_px": 8.0,
            "metres_per_pi": 0.06,
            "grid_px_per_chip_px": 1.0,
            "smooth_cells": 1.0,
            "cells": 60,
            "channels": {"features_1": [0, 2]},
        },
        "threshold": 2.0,
        "threshold_rule": "highest",
        "parity": PARITY,
        "licence": "Apache-2.0",
        "attribution": "Contains modified Copernicus Sentinel data.",
        "graph": {"path": GRAPH, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)},
    }
    (tmp_path / GRAPH).write_bytes(content)
    (tmp_path / MANIFEST).write_text(json.dumps(facts), encoding="utf-8")
    return tmp_path, facts


def test_a_whole_model_is_read(model):
    """Manifest and path of the graph come back."""
    manifest, graph = read_model(model[0])
    assert manifest.threshold == 2.0
    assert graph == model[0] / GRAPH
    assert manifest.settings.method == "wnlml"


def test_another_graph_is_refused(model):
    """A graph that the manifest was not written for is not run."""
    (model[0] / GRAPH).write_bytes(b"another")
    with pytest.raises(ModelInvalidError, match="sha256"):
        read_model(model[0])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"more": 1}, "more"),
        ({"threshold": "high"}, "threshold"),
        ({"settings": {"method": "magic"}}, "settings.method"),
        ({"graph": {"path": "../x.onnx", "sha256": HEX, "bytes": 1}}, "graph"),
        ({"graph": {"path": "x.onnx", "sha256": HEX, "bytes": 1}}, "model.onnx"),
    ],
)
def test_a_broken_manifest_is_refused(model, change, said):
    """Unknown keys, wrong values and paths that lead elsewhere are named."""
    folder, facts = model
    (folder / MANIFEST).write_text(json.dumps({**facts, **change}), encoding="utf-8")
    with pytest.raises(ModelInvalidError, match=said):
        read_model(folder)


def test_what_is_missing_is_named(model, tmp_path):
    """No folder is an unknown model, no graph an invalid one."""
    with pytest.raises(ModelUnknownError, match="anomaly fit"):
        read_model(tmp_path / "nowhere")
    (model[0] / GRAPH).unlink()
    with pytest.raises(ModelInvalidError, match=GRAPH):
        read_model(model[0])
