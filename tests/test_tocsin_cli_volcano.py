"""`tocsin volcano` as a user runs it: bad input, purity of stdout, existing products, pictures, real files."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image

from tocsin.cli import main
from tocsin.phase import wrap

COMMAND = (sys.executable, "-c", "import sys; from tocsin.cli import main; sys.exit(main())")
AT = Affine(100, 0, 5e5, 0, -100, 4.4e6)


@pytest.fixture
def phase():
    """Return unwrapped phase of a bowl in noise, float32 [1, 90, 100], rad."""
    row, col = np.mgrid[:90, :100]
    bowl = 12 * np.exp(-((row - 40) ** 2 + (col - 50) ** 2) / 300)
    return (bowl + np.random.default_rng(1).normal(0, 0.5, bowl.shape)).astype(np.float32)[None]


@pytest.fixture
def wrapped(tmp_path, phase, write_raster):
    """Return the path of the same as wrapped phase."""
    return write_raster(tmp_path / "ifg.tif", wrap(phase), transform=AT)


@pytest.fixture
def volcano(volcano_models, tmp_path, capsys):
    """Return what runs `tocsin volcano ... --json` with a small model, and gives exit code and object."""

    def run(*arguments):
        given = ["volcano", *map(str, arguments), "-o", str(tmp_path / "out"), "--json"]
        capsys.readouterr()
        code = main([*given, "--model-repository", str(volcano_models)])
        return code, json.loads(capsys.readouterr().out)

    return run


def left(folder: Path) -> list[str]:
    """Return the names of everything in a folder, hidden files included."""
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def classes(found):
    """Return the class raster of a result."""
    with rasterio.open(found["products"]["class"]) as file:
        return file.read(1)


def test_json_is_the_whole_of_stdout(volcano, wrapped, tmp_path):
    """With --json stdout is one object; its products exist and are all that is in the folder."""
    code, found = volcano(wrapped)
    assert code == 0
    assert set(found) == {"hazard", "status", "scene", "products", "summary", "warnings", "provenance"}
    assert set(found["products"]) == {"class", "probability", "polygons", "quicklook", "item"}
    assert sorted(Path(path).name for path in found["products"].values()) == left(tmp_path / "out")
    assert {"deformation_probability", "label", "source", "detections"} <= set(found["summary"])
    assert found["provenance"]["scales_m"] == [[100, 100], [300, 300]]


def test_text_names_every_product(volcano_models, wrapped, tmp_path, capsys):
    """Without --json a person reads the verdict, areas and paths."""
    out = tmp_path / "out"
    assert main(["volcano", str(wrapped), "-o", str(out), "--model-repository", str(volcano_models)]) == 0
    said = capsys.readouterr().out
    assert "km2" in said
    for name in left(out):
        assert name in said


def test_unwrapped_wrapped_and_metres_agree(volcano, wrapped, phase, tmp_path, write_raster):
    """The same motion in three forms gives one map, each form when it is said which it is."""
    code, found = volcano(wrapped, "--wrapped")
    assert code == 0
    expected = classes(found)
    unwrapped = write_raster(tmp_path / "u" / "ifg.tif", phase, transform=AT)
    metres = write_raster(tmp_path / "m" / "ifg.tif", phase * np.float32(-0.0555 / (4 * np.pi)), transform=AT)
    for given in ((unwrapped, "--unwrapped"), (metres, "--units", "m"), (metres, "--unwrapped", "--units", "m")):
        code, found = volcano(*given, "--overwrite")
        assert code == 0
        assert (classes(found) != expected).mean() < 1e-3


@pytest.mark.parametrize("given", [(), ("--wrapped",), ("--unwrapped",)])
def test_metres_are_refused(volcano, phase, tmp_path, write_raster, given):
    """Metres without --units m exit 3, say what to do, and leave nothing behind."""
    metres = write_raster(tmp_path / "m.tif", phase * np.float32(-0.0555 / (4 * np.pi)), transform=AT)
    code, found = volcano(metres, *given)
    assert (code, found["error"]["code"]) == (3, "wrong_units")
    assert "--units m" in found["error"]["todo"]
    assert left(tmp_path / "out") == []


def test_values_far_outside_are_refused(volcano, phase, tmp_path, write_raster):
    """Unwrapped phase that is not said to be so exits 3 and names --unwrapped."""
    code, found = volcano(write_raster(tmp_path / "ifg.tif", phase, transform=AT))
    assert (code, found["error"]["code"]) == (3, "wrong_units")
    assert "--unwrapped" in found["error"]["todo"]


def test_coherence(volcano, wrapped, tmp_path, write_raster):
    """Coherence hides pixels below --min-coherence; on another grid it exits 3."""
    coherence = np.full((1, 90, 100), 0.5, np.float32)
    coherence[0, :30] = 0.3
    beside = write_raster(tmp_path / "cc.tif", coherence, transform=AT)
    assert (classes(volcano(wrapped, "--coherence", beside)[1]) == 254).sum() == 0
    hidden = classes(volcano(wrapped, "--coherence", beside, "--min-coherence", "0.4", "--overwrite")[1]) == 254
    np.testing.assert_array_equal(hidden, coherence[0] < 0.4)
    elsewhere = write_raster(tmp_path / "elsewhere.tif", coherence[:, :80], transform=AT)
    code, found = volcano(wrapped, "--coherence", elsewhere, "--overwrite")
    assert (code, found["error"]["code"]) == (3, "grid_mismatch")


def test_nothing_and_next_to_nothing(volcano, tmp_path, write_raster, phase):
    """An all-NaN file is empty, a 20 x 20 file is answered with a warning: neither is an error."""
    code, found = volcano(write_raster(tmp_path / "nan.tif", np.full((1, 90, 100), np.nan, np.float32), transform=AT))
    assert (code, found["status"], found["summary"]["label"]) == (0, "empty", None)
    code, found = volcano(write_raster(tmp_path / "small.tif", wrap(phase[:, :20, :20]), transform=AT))
    assert (code, found["status"]) == (0, "ok")
    assert "small_scene" in [warning["code"] for warning in found["warnings"]]


def test_pictures(volcano, tmp_path, phase):
    """A picture of phase is a partial result with exit 0; a palette PNG of something else exits 3."""
    grey = np.rint((wrap(phase[0]) + np.pi) * 255 / (2 * np.pi)).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "ifg.png")
    code, found = volcano(tmp_path / "ifg.png")
    assert (code, found["status"], set(found["products"])) == (0, "partial", {"class", "probability", "quicklook"})
    assert "no_georeference" in [warning["code"] for warning in found["warnings"]]
    other = Image.fromarray(np.random.default_rng(0).integers(0, 5, (90, 90), dtype=np.uint8), "P")
    other.putpalette([255, 0, 255, 10, 200, 10, 90, 90, 250, 250, 120, 0, 0, 80, 40])
    other.save(tmp_path / "map.png")
    code, found = volcano(tmp_path / "map.png")
    assert (code, found["error"]["code"]) == (3, "wrong_units")
    assert not [name for name in left(tmp_path / "out") if name.startswith("map")]


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (("--wrapped", "--unwrapped"), "usage"),
        (("--wrapped", "--units", "m"), "usage"),
        (("--units", "mm"), "usage"),
        (("--min-coherence", "7"), "usage"),
        (("--overlap", "64"), "usage"),
    ],
)
def test_contradictions_are_refused(volcano, wrapped, tmp_path, given, code):
    """Options that contradict each other or are out of bounds exit 2."""
    exit_code, found = volcano(wrapped, *given)
    assert (exit_code, found["error"]["code"]) == (2, code)
    assert left(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("missing", "exit_codes"), [("nowhere.tif", {2}), ("http://127.0.0.1/a.tif", {3}), ("/vsicurl/http://a/a.tif", {3})]
)
def test_what_is_not_there_is_refused(volcano, tmp_path, missing, exit_codes):
    """A path that does not exist and an address of the network are refused by name."""
    exit_code, found = volcano(missing)
    assert exit_code in exit_codes
    assert missing in found["error"]["given"]
    assert left(tmp_path / "out") == []


def test_broken_files_are_refused(volcano, wrapped, tmp_path):
    """A truncated raster and a PNG that ends early exit 3 with their codes."""
    half = tmp_path / "half.tif"
    half.write_bytes(wrapped.read_bytes()[:9000])
    code, found = volcano(half)
    assert (code, found["error"]["code"]) == (3, "truncated")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90), dtype=np.uint8)).save(tmp_path / "whole.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:4000])
    code, found = volcano(tmp_path / "half.png")
    assert (code, found["error"]["code"]) == (3, "truncated")


def test_existing_product_is_kept_and_a_dry_run_writes_nothing(volcano, wrapped, tmp_path):
    """--dry-run says windows of both scales; a second run is refused; --overwrite lets it run."""
    code, found = volcano(wrapped, "--dry-run")
    assert (code, found["summary"]["windows"], found["summary"]["overlap_px"]) == (0, 7, 32)
    assert left(tmp_path / "out") == []
    assert volcano(wrapped)[0] == 0
    code, found = volcano(wrapped)
    assert (code, found["error"]["code"]) == (2, "product_exists")
    assert volcano(wrapped, "--overwrite")[0] == 0


def test_cold_start_imports_nothing_heavy():
    """Asking for help imports no rasterio, and scoring neither torch nor matplotlib."""
    checks = (
        (
            "import sys; from tocsin.cli import main; main(['volcano', '--help']); "
            "sys.exit(', '.join({'rasterio', 'scipy', 'onnxruntime'} & set(sys.modules)) or 0)"
        ),
        (
            "import sys, tocsin.scoring, tocsin.volcano_scoring; "
            "sys.exit(', '.join({'torch', 'starlette', 'matplotlib', 'transformers'} & set(sys.modules)) or 0)"
        ),
    )
    for check in checks:
        done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_real_process_is_quiet_on_stderr(volcano_models, wrapped, tmp_path):
    """With --quiet a scoring that works says nothing on stderr and prints one object on stdout."""
    command = [*COMMAND, "volcano", str(wrapped), "-o", str(tmp_path / "out"), "--json", "--quiet"]
    command += ["--model-repository", str(volcano_models)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["status"] == "ok"


@pytest.mark.data
def test_real_pictures(volcano, data):
    """Pictures of DeepCube, grey and coloured, are scored as they are."""
    folders = (data / "deepcube/C1/0", data / "deepcube/S1/Train/1")
    for path in [min(folder.glob("*.png")) for folder in folders if folder.is_dir()]:
        code, found = volcano(path)
        assert (code, found["status"]) == (0, "partial")
        assert 0 < found["scene"]["valid_fraction"] <= 1
