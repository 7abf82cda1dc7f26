"""`tocsin landslide` as a user runs it: purity of stdout, every kind of bad input, real stacks."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from tocsin.cli import main

PRE = ("2024-01-01T18:00:00Z", "2024-01-13T18:00:00Z", "2024-01-25T18:00:00Z", "2024-01-30T18:00:00Z")
POST = ("2024-02-06T18:00:00Z", "2024-02-18T18:00:00Z", "2024-03-01T18:00:00Z", "2024-03-13T18:00:00Z")


@pytest.fixture
def acquire(tmp_path, write_raster):
    """Return a function that writes an acquisition of speckled land, VV and VH in dB, and returns its name."""

    def make(name, when, *, shift_db=0.0, size_m=10.0, left=5e5, linear=False, **tags):
        random = np.random.default_rng(sum(map(ord, name)))
        values = np.array([-10, -16])[:, None, None] + random.normal(0, 1, (2, 70, 90)) - shift_db
        values = 10 ** (values / 10) if linear else values
        at = Affine(size_m, 0.0, left, 0.0, -size_m, 4.4e6)
        path = tmp_path / "in" / f"{name}.tif"
        return str(write_raster(path, values.astype(np.float32), transform=at, ACQUISITION_START=when, **tags))

    return make


@pytest.fixture
def pair(acquire):
    """Return the arguments of one acquisition on each side, backscatter fallen by 4 dB."""
    return ["--pre", acquire("pre", PRE[0]), "--post", acquire("post", POST[0], shift_db=4)]


@pytest.fixture
def landslide(landslide_models, tmp_path, capsys):
    """Return what runs `tocsin landslide ... --json` with a model whose answer is known; exit code and object."""

    def run(*arguments):
        given = ["landslide", *map(str, arguments), "-o", str(tmp_path / "out"), "--json"]
        capsys.readouterr()
        code = main([*given, "--model-repository", str(landslide_models)])
        return code, json.loads(capsys.readouterr().out)

    return run


def left(folder: Path) -> list[str]:
    """Return the names of everything in a folder, hidden files included."""
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def codes(found):
    """Codes of the warnings of a result."""
    return {warning["code"] for warning in found["warnings"]}


def band(found, product):
    """Band of a product as it is stored."""
    with rasterio.open(found["products"][product]) as file:
        return file.read(1)


def test_json_is_the_whole_of_stdout(landslide, pair, tmp_path):
    """With --json stdout is one object; its products exist and are all that is in the folder."""
    code, found = landslide(*pair)
    assert code == 0
    assert set(found) == {"hazard", "status", "scene", "products", "summary", "warnings", "provenance"}
    assert set(found["products"]) == {"class", "probability", "density", "mask", "polygons", "quicklook", "item"}
    assert sorted(Path(path).name for path in found["products"].values()) == left(tmp_path / "out")
    assert list(found["summary"]) == [
        "observed_km2",
        "landslide_km2",
        "expected_landslides",
        "expected_landslides_interval",
        "cells",
        "low_cells",
        "high_cells",
        "days_between",
    ]
    assert (found["summary"]["cells"], found["summary"]["days_between"]) == (4, 36.0)
    assert found["summary"]["low_cells"] + found["summary"]["high_cells"] == 4
    assert codes(found) == {"single_acquisition"}


def test_text_names_every_product(landslide_models, pair, tmp_path, capsys):
    """Without --json a person reads the number with its interval, the cells, warnings and paths."""
    out = tmp_path / "out"
    assert main(["landslide", *pair, "-o", str(out), "--gpkg", "--model-repository", str(landslide_models)]) == 0
    said = capsys.readouterr().out
    for word in ("landslides, 90 % interval", "4 low, of 4", "36.0 days", "single_acquisition"):
        assert word in said
    assert len(left(out)) == 8
    for name in left(out):
        assert name in said


@pytest.mark.parametrize(
    ("given", "exit_code", "error", "said"),
    [
        (("swapped",), 3, "wrong_dates", "exchange the two sides"),
        (("four",), 2, "usage", "at most 3"),
        (("linear",), 3, "wrong_units", "--units linear"),
        (("twice",), 2, "usage", "named once"),
        (("elsewhere",), 3, "not_covering", "same place"),
        (("--overlap", "32"), 2, "usage", "64 px"),
        (("--units", "power"), 2, "usage", "units"),
        (("--orbit-pass", "up"), 2, "usage", "orbit-pass"),
        (("missing",), 2, "usage", "does not exist"),
    ],
)
def test_bad_input_is_refused(landslide, acquire, tmp_path, given, exit_code, error, said):
    """Each mistake has its code and says what to do, and leaves nothing behind."""
    before, after = acquire("pre", PRE[0]), acquire("post", POST[0])
    arguments = {
        "swapped": ["--pre", after, "--post", before],
        "four": [*(part for when in PRE for part in ("--pre", acquire(when[:10], when))), "--post", after],
        "linear": [
            *("--pre", acquire("linear_pre", PRE[0], linear=True)),
            *("--post", acquire("linear_post", POST[0], linear=True)),
        ],
        "twice": ["--pre", before, "--pre", before, "--post", after],
        "elsewhere": ["--pre", acquire("far", PRE[0], left=6e5), "--post", after],
        "missing": ["--pre", str(tmp_path / "nowhere.tif"), "--post", after],
    }.get(given[0], ["--pre", before, "--post", after, *given])
    code, found = landslide(*arguments)
    assert (code, found["error"]["code"]) == (exit_code, error)
    assert said in json.dumps(found["error"])
    assert left(tmp_path / "out") == []


def test_a_side_is_needed(landslide_models, acquire, tmp_path, capsys):
    """Without an acquisition after the event nothing can have changed: exit 2."""
    arguments = ["landslide", "--pre", acquire("pre", PRE[0]), "-o", str(tmp_path / "out")]
    assert main([*arguments, "--model-repository", str(landslide_models)]) == 2
    assert "--post" in capsys.readouterr().err


def test_other_grids_and_orbits_are_said(landslide, acquire):
    """Another grid is resampled and another pass warned of: both stand in the result."""
    before = acquire("pre", PRE[0], left=5e5 + 5.0, ORBIT_PASS="ascending")
    code, found = landslide("--pre", before, "--post", acquire("post", POST[0], ORBIT_PASS="descending"))
    assert code == 0
    assert {"grid_differs", "orbit_differs"} <= codes(found)
    assert found["provenance"]["resampled"] is None


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("whole", set()), ("part", {"dem_partial"}), ("void", {"dem_void"}), ("away", "not_covering"), ("feet", None)],
)
def test_heights(landslide, pair, tmp_path, write_raster, kind, expected):
    """A DEM that is void or covers a part is stated, one elsewhere refused, one in feet refused with its unit."""
    values = np.full((1, 200, 200), np.nan if kind == "void" else 500.0, np.float32)
    at = Affine(10.0, 0.0, {"part": 5e5 + 400, "away": 6e5}.get(kind, 5e5 - 500), 0.0, -10.0, 4.4e6 + 500)
    path = write_raster(tmp_path / "dem.tif", values, transform=at)
    if kind == "feet":
        with rasterio.open(path, "r+") as file:
            file.units = ("ft",)
    code, found = landslide(*pair, "--dem", path)
    if kind in {"away", "feet"}:
        assert code == 3
        assert found["error"]["code"] == (expected or "wrong_units")
        return
    assert (code, codes(found) - {"single_acquisition"}) == (0, expected | {"orbit_pass_unknown"})
    bits = band(found, "exclusion")
    assert (bits == 255).mean() == pytest.approx({"whole": 0, "part": 40 / 90, "void": 1}[kind], abs=0.02)
    assert found["summary"]["cells"] == 4


def test_exclusion_by_polygons(landslide, pair, tmp_path):
    """Ground inside polygons is not observed."""
    ring = [[-3.0, 39.75], [-2.9, 39.75], [-2.9, 39.7], [-3.0, 39.7], [-3.0, 39.75]]
    area = tmp_path / "fields.geojson"
    area.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    code, found = landslide(*pair, "--exclude", area)
    assert (code, found["status"]) == (0, "empty")
    excluded = band(found, "exclusion") == 8
    assert (band(found, "class") == 254).all()
    assert excluded.all()
    assert found["summary"]["expected_landslides"] is None


@pytest.mark.data
def test_real_stacks(landslide, data):
    """Three and three acquisitions of OPERA, 30 m, linear power, run to the end, and say what was done to them."""
    folder = data / "opera_rtc" / "stable_california"
    days = ("20231004", "20231016", "20231028", "20231109", "20231121", "20231203")
    names = [min(folder.glob(f"*T137-292319-IW2_{day}T*_VV.tif")) for day in days]
    arguments = []
    for number, name in enumerate(names):
        other = name.with_name(name.name.replace("_VV.", "_VH."))
        arguments += ["--pre" if number < 3 else "--post", f"{name};{other}"]
    code, found = landslide(*arguments, "--units", "linear")
    assert (code, found["status"]) == (0, "ok")
    assert found["scene"]["acquired"] == "2023-11-09T01:59:08Z"
    assert found["summary"]["days_between"] == pytest.approx(12, abs=1e-3)
    assert found["provenance"]["resampled"]["to_m"] == [10.0, 10.0]
    assert len(found["provenance"]["inputs"]) == 12
    assert (found["summary"]["cells"], found["summary"]["high_cells"]) == (25, 0)
    assert codes(found) <= {"mask_beside_cells"}
    with rasterio.open(names[3]) as scene:
        np.testing.assert_array_equal(band(found, "mask") == 65535, np.isnan(scene.read(1)))
