import json

import pytest

from serving.gate.inputs import FILES, NAME_LENGTH, Accepted, place, safe_name, scoring_inputs
from tocsin.errors import UsageError
from tocsin.hazards.flood import FloodInputs
from tocsin.hazards.landslide import LandslideInputs
from tocsin.hazards.volcano import VolcanoInputs
from tocsin.scoring_job import ScoringOptions

MODELS = {"flood": FloodInputs, "landslide": LandslideInputs, "volcano": VolcanoInputs}


@pytest.mark.parametrize("hazard", FILES)
def test_files_are_the_inputs_that_name_files(hazard):
    """Every input of a hazard that is a free text is a file; the area of interest is an option of all of them."""
    fields = MODELS[hazard].model_json_schema()["properties"]
    free = {name for name, field in fields.items() if "minLength" in json.dumps(field)}
    assert set(FILES[hazard]) == free | {"aoi"}
    assert "aoi" in ScoringOptions.model_fields


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("S1A_IW_20200101T000000_VV.tif", "S1A_IW_20200101T000000_VV.tif"),
        ("../../etc/passwd", "passwd"),
        ("C:\\data\\scene.tif", "scene.tif"),
        ("/vsicurl/http:/x/a.tif", "a.tif"),
        ("a;b|c$(d).tif", "a_b_c_d_.tif"),
        (".tocsin", "tocsin"),
        ("-rf.tif", "rf.tif"),
        ("Überflutung.tif", "berflutung.tif"),
        ("a\0b\nc.tif", "a_b_c.tif"),
    ],
)
def test_names_are_safe(given, kept):
    """Only the last part of a name is kept, in characters that mean nothing to a shell, a path or GDAL."""
    assert safe_name(given) == kept


@pytest.mark.parametrize("given", ["", "..", "/", "....", "___", "a" * (NAME_LENGTH + 1), "π"])
def test_names_that_are_none_are_refused(given):
    """Nothing is made up for a name of which nothing is left."""
    with pytest.raises(UsageError):
        safe_name(given)


def test_files_of_one_name_lie_apart(tmp_path):
    """Two inputs, or two files of one input, may be called the same."""
    places = {place(tmp_path, *each, "a.tif") for each in [("pre", 0), ("pre", 1), ("post", 0)]}
    assert len(places) == 3
    assert all(path.name == "a.tif" and path.is_relative_to(tmp_path) for path in places)


def named(tmp_path, *names):
    """Return paths of files with these names."""
    return tuple(tmp_path / name for name in names)


def test_polarisations_are_joined(tmp_path):
    """Two files whose names differ by VV and VH are one acquisition, VV first; its order is that of sending."""
    first, second, whole = named(tmp_path, "A_VH.tif", "A_VV.tif", "B.tif")
    inputs = scoring_inputs("landslide", {"pre": (first, second, whole), "post": (whole,)})
    assert inputs == {"pre": (f"{second};{first}", str(whole)), "post": (str(whole),)}
    assert scoring_inputs("flood", {"post": (first, second), "dem": (whole,)}) == {
        "post": f"{second};{first}",
        "dem": str(whole),
    }


def test_other_files_are_not_joined(tmp_path):
    """Two scenes, or the same polarisation twice, are two acquisitions: one too many for a flood."""
    for names in [("A.tif", "B.tif"), ("A_VV.tif", "B_VH.tif"), ("A_VV.tif", "a_vv.tif")]:
        paths = named(tmp_path, *names)
        assert scoring_inputs("landslide", {"post": paths}) == {"post": tuple(map(str, paths))}
        with pytest.raises(UsageError, match="2 acquisitions as post"):
            scoring_inputs("flood", {"post": paths})


def test_unknown_and_too_many_files_are_refused():
    """A file is refused by its name before a byte of it is kept."""
    with pytest.raises(UsageError, match="interferogram"):
        Accepted("flood").check_file("interferogram", 0)
    with pytest.raises(UsageError, match="at most 2"):
        Accepted("flood").check_file("post", 2)
    Accepted("flood").check_file("post", 1)
