"""Values of a request become inputs and options, the same from a form as from JSON."""

import pytest

pytest.importorskip("starlette", reason="needs the extra serve")

from serving import forms
from serving.settings import ServiceSettings
from tocsin.errors import UsageError


@pytest.mark.parametrize("given", [{"threshold": "0.25", "gpkg": "true"}, {"threshold": 0.25, "gpkg": True}])
def test_text_and_json_mean_the_same(given):
    """A text of a form and a value of JSON are one value."""
    values = forms.read_values("flood", given)
    assert (values.threshold, values.gpkg, values.units) == (0.25, True, "db")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"nonsense": "1"}, "nonsense"),
        ({"threshold": "1.5"}, "threshold"),
        ({"units": ["db", "linear"]}, "units"),
        ({"webhook": "file:/etc/passwd"}, "webhook"),
        ({"runtime": "onnx"}, "runtime"),
        ({"model_repository": "/x"}, "model_repository"),
    ],
)
def test_what_nobody_takes_is_refused(given, said):
    """An unknown field, a value out of bounds, and what is the operator's choice are refused by name."""
    with pytest.raises(UsageError, match=said):
        forms.read_values("flood", given)


def test_a_long_value_is_not_repeated_whole():
    """What is wrong is told in a line, however long it was."""
    with pytest.raises(UsageError) as refused:
        forms.read_values("flood", {"units": "x" * 10_000})
    assert len(str(refused.value)) < 400


def test_inputs_are_those_of_python():
    """Files and values together are checked as the model of the hazard's inputs does."""
    values = forms.read_values("landslide", {"units": "linear"})
    found = forms.checked_inputs(
        "landslide", {"pre": ("a.tif",), "post": ("b.tif", "c.tif"), "aoi": "d.geojson"}, values
    )
    assert (found["pre"], found["post"], found["units"]) == (("a.tif",), ("b.tif", "c.tif"), "linear")
    assert "aoi" not in found


def test_a_missing_file_is_named():
    """Who forgot the scene is told which field it is."""
    with pytest.raises(UsageError, match="interferogram"):
        forms.checked_inputs("volcano", {}, forms.read_values("volcano", {}))


def test_operator_and_request_make_the_options_together(tmp_path):
    """What runs is the operator's choice, what is mapped the request's."""
    settings = ServiceSettings(runtime="grpc://triton:8001", precision="fp16", threads=2, model_repository=tmp_path)
    values = forms.read_values("flood", {"threshold": "0.25", "overlap": "64"})
    options = forms.scoring_options(settings, values, str(tmp_path / "aoi.geojson"))
    assert (options.runtime, options.precision, options.threads) == ("grpc://triton:8001", "fp16", 2)
    assert (options.model_repository, options.aoi) == (tmp_path, tmp_path / "aoi.geojson")
    assert (options.threshold, options.overlap, options.dry_run) == (0.25, 64, False)
