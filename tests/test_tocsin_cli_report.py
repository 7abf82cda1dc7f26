"""What a human reader is told of a result."""

from datetime import UTC, datetime

import pytest

from tocsin.cli.report import scoring_text
from tocsin.result import Provenance, Result, ResultWarning, SceneFacts, VolcanoSummary


def result(status="ok", **changes):
    """A result of a volcano scoring."""
    figures = {
        "observed_km2": 2640.46,
        "deforming_km2": 434.7,
        "deformation_probability": 0.97,
        "label": "deformation",
        "source": "dyke",
        "source_probability": 0.9,
        "detections": 2,
    }
    return Result(
        hazard="volcano",
        status=status,
        scene=SceneFacts(
            id="ifg",
            crs="EPSG:4326",
            shape=(500, 400),
            bounds=(40.0, 13.0, 40.4, 13.5),
            valid_fraction=0.9,
            acquired=datetime(2017, 2, 4, tzinfo=UTC),
        ),
        products={"class": "out/ifg_class.tif"},
        summary=VolcanoSummary(**{**figures, **changes}),
        warnings=(ResultWarning(code="small_scene", message="look at it"),),
        provenance=Provenance(
            model="volcano",
            version="1.0.0",
            sha256="0" * 64,
            precision="fp32",
            runtime="onnx",
            device="cpu",
            threshold=0.5,
            tocsin="0.1.0",
            inputs=(),
            resampled=None,
            started=datetime(2026, 1, 2, tzinfo=UTC),
            seconds=1.5,
        ),
    )


def test_the_verdict_comes_before_figures_warnings_and_files():
    """Verdict, areas, number of detections, what is doubtful, what was written, what ran."""
    assert scoring_text(result()).splitlines()[1:] == [
        "verdict     Deformation, P 0.97, dyke",
        "observed    2,640.46 km2",
        "deforming   434.70 km2",
        "detections  2",
        "warning: look at it (small_scene)",
        "class       out/ifg_class.tif",
        "model volcano 1.0.0, fp32, onnx on cpu, threshold 0.5, 1.5 s",
    ]


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"label": "stable", "deformation_probability": 0.12}, "No deformation seen, highest P 0.12"),
        ({"label": None, "deformation_probability": None}, "Nothing observed"),
    ],
)
def test_a_quiet_scene_and_an_unseen_one_differ(changes, verdict):
    """What nobody saw is never called stable, and a picture without a place has no areas."""
    text = scoring_text(result(observed_km2=None, deforming_km2=None, source=None, detections=0, **changes))
    assert f"verdict     {verdict}" in text
    assert "km2" not in text
