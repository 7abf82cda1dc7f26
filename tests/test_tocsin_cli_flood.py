"""`tocsin flood` as a user runs it: hostile files, purity of stdout, existing products, interrupts."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from tocsin.cli import main
from tocsin.simulate import NumpyRandom, flood_scene

COMMAND = (sys.executable, "-c", "import sys; from tocsin.cli import main; sys.exit(main())")
KEPT = "tocsin-kept-by-the-user"


def write(path: Path, bands: np.ndarray, **more: object) -> Path:
    """Write bands [band, row, col] as a GeoTIFF of 10 m pixels and return its path."""
    count, height, width = bands.shape
    profile = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": bands.dtype}
    profile |= {"crs": "EPSG:32633", "transform": from_origin(5e5, 5e6, 10, 10), "nodata": np.nan}
    with rasterio.open(path, "w", **{**profile, **more}) as file:
        file.write(bands)
    return path


@pytest.fixture(scope="module")
def backscatter_db() -> np.ndarray:
    """Return a simulated scene, float32 [2, 96, 128], dB."""
    return np.asarray(flood_scene(NumpyRandom(5), (96, 128)).post_db)


@pytest.fixture
def scene(tmp_path: Path, backscatter_db: np.ndarray) -> Path:
    """Return the path of that scene."""
    return write(tmp_path / "scene.tif", backscatter_db)


@pytest.fixture
def flood(tiny_repository: Path, tmp_path: Path, capsys) -> Callable[..., tuple[int, dict]]:
    """Return what runs `tocsin flood ... --json` with a small model, and gives exit code and object."""

    def run(*arguments: object) -> tuple[int, dict]:
        given = ["flood", *map(str, arguments), "-o", str(tmp_path / "out"), "--json"]
        capsys.readouterr()
        code = main([*given, "--model-repository", str(tiny_repository)])
        return code, json.loads(capsys.readouterr().out)

    return run


def left(folder: Path) -> list[str]:
    """Return the names of everything in a folder, hidden files included."""
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def huge(path: Path, _: np.ndarray) -> Path:
    """Write a header of 100,000 x 100,000 pixels with next to no body."""
    profile = {"driver": "GTiff", "count": 2, "height": 100_000, "width": 100_000, "dtype": "float32"}
    profile |= {"crs": "EPSG:32633", "transform": from_origin(5e5, 5e6, 10, 10)}
    with rasterio.open(path, "w", **profile, tiled=True, sparse_ok=True, BIGTIFF="YES"):
        pass
    return path


def truncated(path: Path, bands: np.ndarray) -> Path:
    """Write a scene and cut the second half of the file off."""
    write(path, bands)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def vrt(path: Path, _: np.ndarray) -> Path:
    """Write a VRT that reads a file of the machine."""
    source = "<SimpleSource><SourceFilename>/etc/passwd</SourceFilename></SimpleSource>"
    band = f'<VRTRasterBand dataType="Float32" band="1">{source}</VRTRasterBand>'
    path.write_text(f'<VRTDataset rasterXSize="64" rasterYSize="64">{band}</VRTDataset>')
    return path


def text(path: Path, _: np.ndarray) -> Path:
    """Write something that is no raster."""
    path.write_bytes(b"hello" * 100)
    return path


def linear(path: Path, bands: np.ndarray) -> Path:
    """Write linear power."""
    return write(path, np.float32(10) ** (bands / np.float32(10)))


def amplitude(path: Path, bands: np.ndarray) -> Path:
    """Write digital numbers as an uncalibrated product holds them."""
    return write(path, np.sqrt(10 ** (bands / 10) * 1e6).astype(np.uint16), nodata=0)


def one_band(path: Path, bands: np.ndarray) -> Path:
    """Write one band of two."""
    return write(path, bands[:1])


def five_bands(path: Path, bands: np.ndarray) -> Path:
    """Write five bands without a name."""
    return write(path, np.concatenate([bands, bands, bands[:1]]))


def nowhere(path: Path, bands: np.ndarray) -> Path:
    """Write a scene without a place."""
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        return write(path, bands, crs=None, transform=rasterio.Affine.identity())


@pytest.mark.parametrize(
    ("make", "name", "code"),
    [
        (huge, "a.tif", "too_large"),
        (truncated, "a.tif", "truncated"),
        (vrt, "a.vrt", "not_a_raster"),
        (vrt, "a.tif", "not_a_raster"),
        (text, "a.tif", "not_a_raster"),
        (linear, "a.tif", "wrong_units"),
        (amplitude, "a.tif", "wrong_units"),
        (one_band, "a.tif", "wrong_bands"),
        (five_bands, "a.tif", "wrong_bands"),
        (nowhere, "a.tif", "no_georeference"),
    ],
)
def test_hostile_file_is_refused(make, name, code, flood, tmp_path, backscatter_db):
    """A file that cannot be scored exits 3 with its code, says what to do, and leaves nothing behind."""
    started = time.monotonic()
    exit_code, found = flood(make(tmp_path / name, backscatter_db))
    assert (exit_code, found["error"]["code"]) == (3, code)
    assert found["error"]["given"]
    assert found["error"]["expected"]
    assert found["error"]["todo"]
    assert time.monotonic() - started < 30
    assert left(tmp_path / "out") == []


def test_linear_power_passes_when_it_is_said(flood, tmp_path, backscatter_db):
    """--units linear takes what is refused as dB, and gives the same map as dB."""
    code, stated = flood(linear(tmp_path / "scene.tif", backscatter_db), "--units", "linear")
    assert code == 0
    with rasterio.open(stated["products"]["class"]) as file:
        from_linear = file.read(1)
    code, again = flood(write(tmp_path / "scene.tif", backscatter_db), "--overwrite")
    assert code == 0
    with rasterio.open(again["products"]["class"]) as file:
        assert (file.read(1) != from_linear).mean() < 1e-3


@pytest.mark.parametrize("missing", ["nowhere.tif", "http://169.254.169.254/latest", "/vsicurl/http://127.0.0.1/a.tif"])
def test_what_is_not_there_is_refused(missing, flood, tmp_path):
    """A path that does not exist, and an address of the network, end with exit code 2 or 3 and a message."""
    exit_code, found = flood(missing)
    assert exit_code in {2, 3}
    assert missing in found["error"]["given"]
    assert left(tmp_path / "out") == []


def test_json_is_the_whole_of_stdout(flood, scene, tmp_path):
    """With --json stdout is one object; its products exist and are all that is in the folder."""
    code, found = flood(scene)
    assert code == 0
    assert set(found) == {"hazard", "status", "scene", "products", "summary", "warnings", "provenance"}
    assert {"class", "probability", "polygons", "quicklook", "item"} <= set(found["products"])
    assert sorted(Path(path).name for path in found["products"].values()) == left(tmp_path / "out")
    assert all(name.startswith("scene_") for name in left(tmp_path / "out"))
    assert found["scene"]["shape"] == [96, 128]
    assert found["provenance"]["device"] == "cpu"


def test_text_names_every_product(tiny_repository, scene, tmp_path, capsys):
    """Without --json a person reads figures and paths."""
    out = tmp_path / "out"
    assert main(["flood", str(scene), "-o", str(out), "--model-repository", str(tiny_repository)]) == 0
    said = capsys.readouterr().out
    assert "km2" in said
    for name in left(out):
        assert name in said


def test_existing_product_is_kept(flood, scene, tmp_path):
    """A second run is refused before any work and touches nothing; --overwrite lets it run."""
    assert flood(scene)[0] == 0
    before = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in left(tmp_path / "out")}
    exit_code, found = flood(scene)
    assert (exit_code, found["error"]["code"]) == (2, "product_exists")
    assert before == {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in left(tmp_path / "out")}
    assert flood(scene, "--overwrite")[0] == 0


def test_dry_run_writes_nothing(flood, scene, tmp_path):
    """--dry-run says windows, memory and bytes, and leaves no file."""
    code, found = flood(scene, "--dry-run")
    assert code == 0
    assert found["summary"]["windows"] == 1
    assert found["summary"]["expected_peak_bytes"] > 0
    assert found["summary"]["bytes_to_write"] > 0
    assert found["products"] == {}
    assert left(tmp_path / "out") == []


def test_all_nodata_is_no_error(flood, tmp_path):
    """A scene without a valid pixel exits 0 with status empty, and every pixel is no data."""
    code, found = flood(write(tmp_path / "scene.tif", np.full((2, 40, 50), np.nan, dtype=np.float32)))
    assert (code, found["status"]) == (0, "empty")
    with rasterio.open(found["products"]["class"]) as file:
        assert (file.read(1) == 255).all()


def test_reference_elsewhere_is_refused(flood, scene, tmp_path):
    """A reference that does not touch the scene exits 3."""
    away = write(
        tmp_path / "away.tif",
        np.ones((1, 20, 20), dtype=np.uint8),
        nodata=255,
        transform=from_origin(7e5, 5e6, 10, 10),
    )
    exit_code, found = flood(scene, "--reference-water", away)
    assert (exit_code, found["error"]["code"]) == (3, "not_covering")


def test_unknown_model_folder(tiny_repository, scene, tmp_path, capsys):
    """A model repository without the model exits 4."""
    del tiny_repository
    (tmp_path / "empty").mkdir()
    arguments = ["flood", str(scene), "-o", str(tmp_path / "out"), "--model-repository", str(tmp_path / "empty")]
    assert main([*arguments, "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "model_unknown"


@pytest.mark.parametrize("runtime", ["tensorrt", "grpc://localhost:8001"])
def test_runtime_that_is_not_there(runtime, flood, scene):
    """A runtime that cannot run exits 5, and nothing else runs in its place."""
    exit_code, found = flood(scene, "--runtime", runtime)
    assert (exit_code, found["error"]["code"]) == (5, "runtime_unavailable")


def test_options_come_from_the_environment(flood, scene, monkeypatch):
    """The threshold that was used is the variable's, and the result states it."""
    monkeypatch.setenv("TOCSIN_THRESHOLD", "0.25")
    assert flood(scene)[1]["provenance"]["threshold"] == 0.25


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_leaves_no_partial_product(number, tiny_repository, tmp_path, backscatter_db):
    """A run that is interrupted half-way exits 6, status partial, and removes its working files."""
    big = write(tmp_path / "big.tif", np.tile(backscatter_db, (1, 60, 40)), tiled=True)
    out = tmp_path / "out"
    out.mkdir()
    (out / KEPT).touch()
    command = [*COMMAND, "flood", str(big), "-o", str(out), "--json", "--model-repository", str(tiny_repository)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 30
        while left(out) == [KEPT] and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        assert process.poll() is None, process.stderr.read()
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 6, stderr
    assert json.loads(stdout)["status"] == "partial"
    assert "Traceback" not in stderr
    assert left(out) == [KEPT]


def test_real_process_is_quiet_on_stderr(tiny_repository, scene, tmp_path):
    """With --quiet a scoring that works says nothing on stderr and prints one object on stdout."""
    command = [*COMMAND, "flood", str(scene), "-o", str(tmp_path / "out"), "--json", "--quiet"]
    environment = {**os.environ, "TOCSIN_MODEL_REPOSITORY": str(tiny_repository)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["status"] == "ok"


def test_cold_start_imports_nothing_heavy():
    """Scoring imports neither torch nor a web framework nor matplotlib, and asking for help imports no rasterio."""
    check = (
        "import sys; from tocsin.cli import main; main(['flood', '--help']); "
        "sys.exit(', '.join({'rasterio', 'scipy', 'onnxruntime'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    check = (
        "import sys, tocsin.scoring, tocsin.hazards.flood; "
        "sys.exit(', '.join({'torch', 'starlette', 'matplotlib', 'transformers'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
