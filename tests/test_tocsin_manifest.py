import json

import pytest
from pydantic import BaseModel, ValidationError

from tocsin import manifest as manifest_module
from tocsin.manifest import (
    Artifact,
    Calibration,
    FileRecord,
    Manifest,
    ModelFacts,
    Normalisation,
    Parity,
    ParityRow,
    Record,
    TensorSpec,
)

SHA = "0" * 64
RECORDS = [each for each in vars(manifest_module).values() if isinstance(each, type) and issubclass(each, Record)]


def facts_with(model_facts, **changes):
    """Return the fixture's facts with fields replaced, validated again."""
    return ModelFacts.model_validate(model_facts.model_dump() | changes)


def artifact(parity, **changes):
    """Return a row of one artifact."""
    values = {"precision": "fp32", "path": "1/model.onnx", "sha256": SHA, "bytes": 1, "opset": 20, "parity": parity}
    return Artifact.model_validate(values | changes)


def manifest_with(model_facts, artifacts, files=()):
    """Return a manifest of these rows."""
    return Manifest(**dict(model_facts), artifacts=artifacts, files=files)


def row(**changes):
    """Return a row of parity figures."""
    values = {
        "case": "a",
        "output": "water",
        "shape": (1, 1, 32, 32),
        "valid_pixels": 1000,
        "max_difference": 0.0,
        "flipped_pixels": 0,
        "same_nan": True,
    }
    return ParityRow.model_validate(values | changes)


@pytest.mark.parametrize("record", RECORDS, ids=lambda each: each.__name__)
def test_every_field_is_described_and_no_unknown_key_is_accepted(record: type[BaseModel]) -> None:
    """Every field of every record says what it is, and no record takes a key that it does not know."""
    assert all(field.description for field in record.model_fields.values())
    assert record.model_config["extra"] == "forbid"
    assert record.model_config["frozen"]


def test_survives_json(model_facts, passing_parity) -> None:
    """A manifest that goes through its JSON text comes back equal."""
    manifest = manifest_with(
        model_facts, (artifact(passing_parity),), (FileRecord(path="config.pbtxt", sha256=SHA, bytes=3),)
    )

    text = manifest.to_json()

    assert Manifest.model_validate_json(text) == manifest
    assert text.endswith("}\n")
    assert json.loads(text)["inputs"][0]["bands"] == ["VV", "VH"]


def test_survives_metadata(model_facts) -> None:
    """The facts that go into a graph's string metadata come back equal, and hold strings only."""
    metadata = model_facts.to_metadata()

    assert all(isinstance(value, str) for value in metadata.values())
    assert metadata["version"] == "1.2.3"
    assert ModelFacts.from_metadata(metadata) == model_facts


@pytest.mark.parametrize(
    "broken",
    [{"chip_px": "{"}, {"chip_px": "0"}, {"invented": "1"}, {"hazard": "meteor"}],
    ids=["no JSON", "out of bounds", "unknown key", "unknown hazard"],
)
def test_refuses_broken_metadata(model_facts, broken) -> None:
    """Metadata that is no JSON, or no facts, is a ValueError."""
    with pytest.raises(ValueError, match=r".+"):
        ModelFacts.from_metadata(model_facts.to_metadata() | broken)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "../flood"),
        ("name", "Flood"),
        ("hazard", "meteor"),
        ("version", "1.2"),
        ("version", "01.2.3"),
        ("chip_px", 500),
        ("threshold", 0.0),
        ("threshold", 1.0),
        ("threshold", float("nan")),
        ("gsd_m", (15.0, 7.0)),
        ("gsd_m", (0.0, 7.0)),
        ("inputs", ()),
        ("metrics", ()),
        ("licence", "  "),
        ("invented", 1),
    ],
)
def test_refuses_facts_out_of_bounds(model_facts, field, value) -> None:
    """A value outside its bounds, an empty text or an unknown key is refused by name."""
    with pytest.raises(ValidationError) as refused:
        facts_with(model_facts, **{field: value})
    assert field in str(refused.value)


@pytest.mark.parametrize("version", ["0.1.0", "1.2.3-rc.1", "10.20.30+build.5"])
def test_takes_semantic_versions(model_facts, version) -> None:
    """Every form of a semantic version is a version."""
    assert facts_with(model_facts, version=version).version == version


def test_refuses_two_inputs_of_one_name(model_facts) -> None:
    """Two inputs cannot share a name."""
    with pytest.raises(ValidationError, match="share a name"):
        facts_with(model_facts, inputs=(*model_facts.inputs, *model_facts.inputs))


def test_facts_cannot_be_changed(model_facts) -> None:
    """A record is immutable."""
    with pytest.raises(ValidationError, match="frozen"):
        model_facts.threshold = 0.9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"low": (-40.0,)}, "one value per band"),
        ({"low": (-10.0, -40.0)}, "low < mean < high"),
        ({"high": (-20.0, 10.0)}, "low < mean < high"),
        ({"std": (0.0, 1.0)}, "greater than 0"),
    ],
)
def test_refuses_a_normalisation_that_makes_no_sense(changes, message) -> None:
    """Bands need one value each, a mean inside their clamp and a positive spread."""
    values = {"low": (-40.0, -40.0), "high": (10.0, 10.0), "mean": (-11.0, -18.0), "std": (5.0, 5.0)}
    with pytest.raises(ValidationError, match=message):
        Normalisation.model_validate(values | changes)


def test_refuses_a_normalisation_of_other_bands(model_facts) -> None:
    """An input's normalisation has one value per band of that input."""
    spec = model_facts.inputs[0].model_dump() | {"bands": ("VV", "VH", "HH")}
    with pytest.raises(ValidationError, match="2 values for 3 bands"):
        TensorSpec.model_validate(spec)


@pytest.mark.parametrize("shape", [(), (2, 0), (2, -2), (2, 9000)])
def test_refuses_shapes_that_are_none(model_facts, shape) -> None:
    """An axis has between 1 and 8192 elements, or is -1 for free."""
    with pytest.raises(ValidationError):
        TensorSpec.model_validate(model_facts.inputs[0].model_dump() | {"shape": shape})


def test_no_calibration_has_no_temperature() -> None:
    """A calibration of kind none with a temperature contradicts itself."""
    assert Calibration(kind="none").temperature == 1.0
    with pytest.raises(ValidationError, match="means temperature 1"):
        Calibration(kind="none", temperature=2.0)


@pytest.mark.parametrize("path", ["/etc/passwd", "../other/1/model.onnx", "1/../../x", "1\\model.onnx", "./a", "", "."])
def test_refuses_paths_that_leave_the_folder(path) -> None:
    """A file of a model lies inside its folder, whatever a manifest from elsewhere says."""
    with pytest.raises(ValidationError, match="plain path"):
        FileRecord(path=path, sha256=SHA, bytes=1)


@pytest.mark.parametrize("sha256", ["0" * 63, "g" * 64, "A" * 64, ""])
def test_refuses_what_is_no_sha256(sha256) -> None:
    """A hash is 64 lower-case hexadecimal digits."""
    with pytest.raises(ValidationError):
        FileRecord(path="a", sha256=sha256, bytes=1)


def test_refuses_a_precision_or_file_listed_twice(model_facts, passing_parity) -> None:
    """One row per precision, one row per file."""
    with pytest.raises(ValidationError, match="precision is listed twice"):
        manifest_with(model_facts, (artifact(passing_parity), artifact(passing_parity, path="1/other.onnx")))
    with pytest.raises(ValidationError, match="file is listed twice"):
        manifest_with(model_facts, (artifact(passing_parity),), (FileRecord(path="1/model.onnx", sha256=SHA, bytes=1),))


def test_lists_its_precisions(model_facts, passing_parity) -> None:
    """The precisions come in the manifest's order."""
    rows = (artifact(passing_parity), artifact(passing_parity, precision="int8", path="1/model.int8.onnx"))
    assert manifest_with(model_facts, rows).precisions == ("fp32", "int8")


def test_sums_parity_over_its_cases() -> None:
    """The largest difference is that of the worst case; the flipped share counts every valid pixel once."""
    rows = (row(max_difference=2e-6, flipped_pixels=1), row(max_difference=1e-6, valid_pixels=3000, flipped_pixels=3))
    parity = Parity(reference="torch", limit_difference=1e-4, limit_flipped=1e-4, rows=rows)

    assert parity.max_difference == 2e-6
    assert parity.flipped_fraction == 4 / 4000


def test_no_valid_pixel_is_no_flip() -> None:
    """Cases without a single valid pixel give a share of zero, not a division by zero."""
    parity = Parity(reference="torch", limit_difference=1e-4, limit_flipped=1e-4, rows=(row(valid_pixels=0),))
    assert parity.flipped_fraction == 0.0
