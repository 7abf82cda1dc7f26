"""Hostile inputs of the contract, sent over HTTP to the whole service: status, code, and nothing left of them."""

import json
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import rasterio
from affine import Affine
from service_stand_ins import CHIP

LITTLE = 24 << 20
"""Bytes of Python memory that a refusal may take in the service, the client's included."""


def tiff(width, height, *, count=8, compression=8, bits=32, samples=1):
    """Return a TIFF header of one strip that promises this much, with a few bytes behind it."""
    fields = [(256, width), (257, height), (258, bits), (259, compression), (273, 8), (277, samples), (278, height)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in [*fields, (279, count)])
    return b"II*\0" + struct.pack("<IH", 8, len(fields) + 1) + entries + struct.pack("<I", 0)


def geotiff(values, **changes):
    """Return a GeoTIFF of these values."""
    profile = {"driver": "GTiff", "count": len(values), "height": values.shape[1], "width": values.shape[2]}
    profile |= {"dtype": "float32", "crs": "EPSG:32630", "transform": Affine(10, 0, 5e5, 0, -10, 4.4e6)} | changes
    with rasterio.MemoryFile() as memory:
        with memory.open(**profile) as raster:
            raster.write(values.astype(np.float32))
        return memory.read()


def noise(bands=2, level=-12.0):
    """Return backscatter of land."""
    return np.random.default_rng(1).normal(level, 3, (bands, CHIP, CHIP))


BOMB = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBBI", 13, b"IHDR", 50_000, 50_000, 8, 0, 0, 0, 0, 0)
VRT = b'<VRTDataset rasterXSize="9" rasterYSize="9"><SourceFilename>/etc/passwd</SourceFilename></VRTDataset>'
LINK = {"type": "link", "properties": {"href": "http://169.254.169.254/crs"}}
POLYGONS = json.dumps({"type": "FeatureCollection", "crs": LINK, "features": []}).encode()

HOSTILE = {
    "huge header": (tiff(100_000, 100_000), 413, "too_large"),
    "high ratio": (tiff(31_000, 31_000), 413, "too_large"),
    "huge strip": (tiff(10_000, 20_000, compression=1, count=800_000_000), 400, "truncated"),
    "many bands": (tiff(100, 100, samples=200), 413, "too_large"),
    "foreign codec": (tiff(100, 100, compression=7), 415, "not_a_raster"),
    "empty": (b"", 400, "truncated"),
    "VRT": (VRT, 415, "not_a_raster"),
    "error page": (b"<!DOCTYPE html><html>404</html>", 415, "not_a_raster"),
    "archive": (b"PK\x03\x04" + bytes(100), 415, "not_a_raster"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(100), 415, "not_a_raster"),
    "linear as dB": (geotiff(np.abs(noise(level=0.1))), 422, "wrong_units"),
    "one band": (geotiff(noise(1)), 422, "wrong_bands"),
    "no place": (geotiff(noise(), crs=None), 422, "no_georeference"),
    "turned": (geotiff(noise(), transform=Affine(10, 1, 5e5, 1, -10, 4.4e6)), 422, "grid_mismatch"),
    "complex": (geotiff(noise(), dtype="complex64"), 422, "wrong_units"),
}


def left(service):
    """Return how many jobs there are and what lies in the folders of jobs."""
    folder = service.app.state.service.settings.state / "jobs"
    return len(service.get("/v1/jobs").json()["jobs"]), sorted(folder.iterdir()) if folder.is_dir() else []


def assert_refused(service, answer_of, status, code):
    """Check a refusal: its problem, what it took, and that nothing is left of the request."""
    before = left(service)
    tracemalloc.start()
    answer = answer_of()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    said = answer.json()
    assert (answer.status_code, said["code"]) == (status, code), said
    assert answer.headers["content-type"] == "application/problem+json"
    assert peak < LITTLE
    assert left(service) == before
    state = str(service.app.state.service.settings.state)
    for text in ("Traceback", "rasterio", "GDAL_", state, "/jobs/"):
        assert text not in answer.text


@pytest.mark.parametrize("route", ["/v1/flood", "/v1/flood:plan"])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_scenes_are_refused(service, name, route):
    """Each gets its status and code at once, from a plan as from a scoring."""
    content, status, code = HOSTILE[name]
    files = {"post": ("scene.tif", content)}
    assert_refused(service, lambda: service.post(route, files=files), status, code)


@pytest.mark.parametrize(
    ("path", "files", "status", "code"),
    [
        ("/v1/volcano", {"interferogram": ("a.png", BOMB)}, 413, "too_large"),
        (
            "/v1/flood",
            {"post": ("a.tif", geotiff(noise())), "aoi": ("a.geojson", POLYGONS)},
            403,
            "forbidden_reference",
        ),
        ("/v1/flood", {"post": ("a.tif", geotiff(noise())), "dem": ("dem.tif", VRT)}, 415, "not_a_raster"),
        (
            "/v1/flood",
            {"post": ("a.tif", geotiff(noise())), "exclude": ("x.gpkg", b"SQLite format 3\0")},
            415,
            "not_a_raster",
        ),
        ("/v1/landslide", {"pre": ("a.tif", VRT), "post": ("b.tif", geotiff(noise()))}, 415, "not_a_raster"),
        ("/v1/flood", {"post": ("../../../etc/cron.d/x.tif", VRT)}, 415, "not_a_raster"),
        ("/v1/flood", {"post": (None, "/etc/passwd")}, 403, "forbidden_reference"),
        ("/v1/flood", {"post": (None, "/vsicurl/https://example.org/a.tif")}, 403, "forbidden_reference"),
        ("/v1/flood", {"post": (None, "s3://bucket/a.tif")}, 403, "forbidden_reference"),
        ("/v1/flood", {"secret": ("a.tif", b"x")}, 400, "usage"),
    ],
)
def test_other_hostile_parts_are_refused(service, path, files, status, code):
    """Every input is looked at, and a name in the place of a file is opened by nobody."""
    assert_refused(service, lambda: service.post(path, files=files), status, code)


@pytest.mark.parametrize(
    "reference",
    [
        "/etc/passwd",
        "/vsicurl/https://example.org/a.tif",
        "vrt://a.tif",
        "http://127.0.0.1/a.tif",
        "https://169.254.169.254/latest/meta-data/",
        "https://example.org/a.tif",
        "s3://bucket/a.tif",
    ],
)
def test_references_are_refused_by_a_service_without_a_list(service, reference):
    """Nothing is fetched from anywhere unless the operator says from where."""
    for body in ({"post": reference}, {"post": [reference]}, {"item": reference}):
        assert_refused(service, lambda body=body: service.post("/v1/flood", json=body), 403, "forbidden_reference")


def test_compressed_body_is_refused(service):
    """A body that would grow on decoding is not decoded."""
    body = zlib.compress(bytes(64 << 20))
    headers = {"Content-Encoding": "gzip", "Content-Type": "multipart/form-data; boundary=x"}
    assert_refused(service, lambda: service.post("/v1/flood", content=body, headers=headers), 400, "usage")


def test_service_still_scores_after_all_of_it(service, chip_bytes):
    """What was refused did no harm."""
    assert service.post("/v1/flood", files={"post": ("chip.tif", chip_bytes)}).status_code == 200
