"""Examples of the OpenAPI document: requests and answers, which a test checks against their schemas."""

from typing import Any, Final

_JOB: Final = "019aa1b2c3d4-5f0e1d2c3b4a59687766"
_SCENE: Final = "Spain_7370579_S1Hand"

RESULT: Final[dict[str, Any]] = {
    "hazard": "flood",
    "status": "ok",
    "scene": {
        "id": _SCENE,
        "crs": "EPSG:4326",
        "shape": [512, 512],
        "bounds": [-1.0547, 37.9894, -1.0087, 38.0354],
        "valid_fraction": 1.0,
        "acquired": None,
    },
    "products": {
        name: f"/v1/products/{_JOB}/{_SCENE}_{name}.{ending}"
        for name, ending in {
            "class": "tif",
            "probability": "tif",
            "polygons": "geojson",
            "quicklook": "png",
            "item": "json",
        }.items()
    },
    "summary": {"observed_km2": 20.67, "water_km2": 3.2, "flood_km2": None, "permanent_km2": None, "polygons": 14},
    "warnings": [{"code": "no_acquisition_time", "message": "no acquisition time is known"}],
    "provenance": {
        "model": "flood",
        "version": "1.0.0",
        "sha256": "0" * 64,
        "precision": "fp32",
        "runtime": "onnx",
        "device": "cpu",
        "threshold": 0.5,
        "tocsin": "0.1.0",
        "inputs": [{"href": f"{_SCENE}.tif", "sha256": "1" * 64}],
        "resampled": None,
        "started": "2026-11-20T12:00:00Z",
        "seconds": 0.412,
    },
}

PLAN: Final[dict[str, Any]] = {
    **RESULT,
    "scene": {**RESULT["scene"], "valid_fraction": None},
    "products": {},
    "summary": {
        "windows": 1,
        "windows_to_run": 1,
        "chip_px": 512,
        "overlap_px": 64,
        "expected_peak_bytes": 471859200,
        "bytes_to_write": 1048576,
    },
    "provenance": {**RESULT["provenance"], "inputs": [{"href": f"{_SCENE}.tif", "sha256": None}], "seconds": 0.01},
}

RUNNING: Final[dict[str, Any]] = {
    "id": _JOB,
    "href": f"/v1/jobs/{_JOB}",
    "hazard": "flood",
    "state": "running",
    "progress": 0.25,
    "queue_place": None,
    "eta_s": 41.0,
    "created": "2026-11-20T12:00:00Z",
    "started": "2026-11-20T12:00:01Z",
    "ended": None,
    "error": None,
    "result": None,
}

DONE: Final[dict[str, Any]] = {
    **RUNNING,
    "state": "done",
    "progress": 1.0,
    "eta_s": None,
    "ended": "2026-11-20T12:00:55Z",
    "result": RESULT,
}

ENDED: Final[dict[str, Any]] = {
    "type": "job.ended",
    "timestamp": "2026-11-20T12:00:55Z",
    "data": {"id": _JOB, "hazard": "flood", "state": "done", "error": None, "href": f"/v1/jobs/{_JOB}"},
}

REFERENCES: Final[dict[str, dict[str, Any]]] = {
    "flood": {"post": "https://data.example.org/scene.tif", "units": "db"},
    "landslide": {
        "pre": ["s3://bucket/pre_1.tif", "s3://bucket/pre_2.tif"],
        "post": ["s3://bucket/post_1.tif"],
        "dem": "s3://bucket/dem.tif",
    },
    "volcano": {"interferogram": "https://data.example.org/ifg.tif", "phase": "wrapped"},
}
"""Bodies in JSON, by hazard."""
