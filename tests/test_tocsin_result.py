"""The JSON object of the contract, key by key, and the public names."""

import json
import subprocess
import sys
import tomllib
from datetime import datetime
from pathlib import Path

import pytest
from pydantic import ValidationError
from stand_ins import make_result

import tocsin
from tocsin.result import FloodSummary, Result, SceneFacts, ScoringPlan, VolcanoSummary


def test_json_is_the_contract():
    """The JSON has exactly the keys of the contract, in its order, with times in UTC."""
    said = json.loads(make_result().to_json())
    assert list(said) == ["hazard", "status", "scene", "products", "summary", "warnings", "provenance"]
    assert list(said["scene"]) == ["id", "crs", "shape", "bounds", "valid_fraction", "acquired"]
    assert list(said["summary"]) == ["observed_km2", "water_km2", "flood_km2", "permanent_km2", "polygons"]
    assert said["warnings"] == [{"code": "acquired_unknown", "message": "no time"}]
    assert list(said["provenance"]) == [
        "model",
        "version",
        "sha256",
        "precision",
        "runtime",
        "device",
        "threshold",
        "tocsin",
        "inputs",
        "resampled",
        "started",
        "seconds",
    ]
    assert list(said["provenance"]["inputs"][0]) == ["href", "sha256"]
    assert said["scene"]["acquired"] == "2024-10-31T18:03:04Z"
    assert said["scene"]["shape"] == [512, 256]


@pytest.mark.parametrize(
    "summary",
    [
        ScoringPlan(
            windows=4, windows_to_run=3, chip_px=512, overlap_px=64, expected_peak_bytes=10**9, bytes_to_write=10**7
        ),
        FloodSummary(observed_km2=1, water_km2=0, flood_km2=0, permanent_km2=0, polygons=0),
        VolcanoSummary(
            observed_km2=None,
            deforming_km2=None,
            deformation_probability=0.97,
            label="deformation",
            source="dyke",
            source_probability=0.9,
            detections=1,
        ),
    ],
)
def test_result_survives_json(summary):
    """Reading the JSON back gives an equal result, whichever summary it holds."""
    result = make_result(summary=summary)
    assert Result.model_validate_json(result.to_json(indent=2)) == result


@pytest.mark.parametrize(
    "changes",
    [
        {"hazard": "fire"},
        {"status": "fine"},
        {"extra": 1},
        {"products": {"thumbnail": "x.png"}},
        {"warnings": ({"code": "Not a code", "message": ""},)},
    ],
)
def test_nothing_else_is_a_result(changes):
    """Unknown keys, states, products and codes are refused."""
    with pytest.raises(ValidationError):
        make_result(**changes)


def test_result_cannot_be_changed():
    """A result is what was measured: it is frozen."""
    with pytest.raises(ValidationError):
        make_result().status = "empty"


def test_times_need_a_zone():
    """A time without a zone is refused: nobody can know what it means."""
    with pytest.raises(ValidationError):
        SceneFacts.model_validate({**make_result().scene.model_dump(), "acquired": datetime(2024, 1, 1)})  # noqa: DTZ001


def test_public_names():
    """The public names of the package are these and load on use."""
    assert tocsin.__all__ == ["AsyncClient", "Client", "Result", "Scorer", "__version__", "errors", "score"]
    assert dir(tocsin) == tocsin.__all__
    assert tocsin.errors.TocsinError.__name__ == "TocsinError"
    assert tocsin.Result is Result
    assert callable(tocsin.score)
    with pytest.raises(AttributeError, match="no attribute 'scores'"):
        _ = tocsin.scores


def test_version_is_stated_once():
    """The package and its metadata state the same version."""
    project = Path(tocsin.__file__).parent.parent / "pyproject.toml"
    assert tomllib.loads(project.read_text())["project"]["version"] == tocsin.__version__


def test_import_is_light():
    """Importing the package loads neither arrays nor rasters nor models."""
    code = "import sys, tocsin; print({'numpy', 'rasterio', 'pydantic', 'onnxruntime'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
