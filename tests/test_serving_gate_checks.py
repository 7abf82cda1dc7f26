import json
import os
import resource
import signal
import struct
import threading
import tracemalloc
import zlib
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
import rasterio
from affine import Affine
from anyio import BrokenWorkerProcess, to_process
from gate_stand_ins import run, settings

from serving.gate import checks
from serving.gate.checks import METADATA_BYTES, POLYGON_BYTES, check_file, check_memory, inspect
from tocsin.errors import TocsinError
from tocsin.raster import rasterise
from tocsin.scoring_job import ScoringOptions

AT = Affine(10.0, 0.0, 5e5, 0.0, -10.0, 4.4e6)
LITTLE = 16 << 20
"""Bytes that a refusal may take: nothing is allocated by what a header promises."""


def refused(path, name="post", tmp_path=None, **limits):
    """Return the code with which a file is refused, which must take little memory."""
    configured = settings(tmp_path or path.parent, **limits)
    tracemalloc.start()
    try:
        with pytest.raises(TocsinError) as caught:
            check_file(name, path, configured)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < LITTLE
    assert str(path.parent) not in str(caught.value)
    return caught.value.code


def tiff(*fields, body=b""):
    """Return a TIFF of one directory made by hand: fields are (tag, type, count, value)."""
    entries = b"".join(struct.pack("<HHII", *field) for field in sorted(fields))
    return b"II*\0" + struct.pack("<IH", 8, len(fields)) + entries + struct.pack("<I", 0) + body


def image(width, height, **more):
    """Return fields of a TIFF of float32 in one strip of a few bytes."""
    named = {"compression": 259, "samples": 277, "rows": 278, "offset": 273, "count": 279}
    values = {"compression": 8, "samples": 1, "rows": height, "offset": 8, "count": 8} | more
    fields = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 32)]
    return [*fields, *((named[name], 4, 1, value) for name, value in values.items())]


def raster(path, height=64, width=64, **changes):
    """Write a raster of noise."""
    profile = {"driver": "GTiff", "count": 2, "height": height, "width": width, "dtype": "float32"}
    profile |= {"crs": "EPSG:32630", "transform": AT} | changes
    values = np.random.default_rng(1).normal(-12, 3, (profile["count"], height, width))
    with rasterio.open(path, "w", **profile) as file:
        file.write(values.astype(profile["dtype"]))
    return path


def written(path, content):
    """Write bytes and return the path."""
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (tiff(*image(100_000, 100_000)), "too_large"),
        (tiff(*image(30_000, 30_000)), "too_large"),
        (tiff(*image(1000, 1000, samples=17)), "too_large"),
        (tiff(*image(100, 100, compression=7)), "not_a_raster"),
        (tiff(*image(100, 100, compression=34925)), "not_a_raster"),
        (tiff(*image(100, 100, count=1 << 30)), "truncated"),
        (tiff(*image(100, 100), (42112, 2, METADATA_BYTES + 1, 8)), "too_large"),
        (tiff(*image(100, 100))[:40], "truncated"),
        (b"", "truncated"),
        (b"hello", "not_a_raster"),
        (b"<VRTDataset rasterXSize='9' rasterYSize='9'/>", "not_a_raster"),
        (b"\xef\xbb\xbf <GDAL_WMS/>", "not_a_raster"),
        (b"<!DOCTYPE html><html></html>", "not_a_raster"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "not_a_raster"),
        (b"\x89HDF\r\n\x1a\n" + bytes(40), "not_a_raster"),
        (b"CDF\x01" + bytes(40), "not_a_raster"),
        (b"SQLite format 3\0" + bytes(100), "not_a_raster"),
        (b"PK\x03\x04" + bytes(40), "not_a_raster"),
        (b'{"type": "FeatureCollection", "features": []}', "not_a_raster"),
    ],
)
def test_hostile_files_are_refused_by_their_bytes(tmp_path, content, code):
    """Size, ratio, codec, tags and formats are judged before GDAL sees a file, whatever it is called."""
    for name in ("scene.tif", "scene.vrt"):
        assert refused(written(tmp_path / name, content)) == code


def test_big_directories_are_refused(tmp_path):
    """A BigTIFF that lists a field for every few bytes of a large file takes no memory for them."""
    count = 1_000_000
    head = b"II+\0" + struct.pack("<HHQ", 8, 0, 16) + struct.pack("<Q", count)
    entry = struct.pack("<HHQQ", 65000, 1, 1, 0)
    assert refused(written(tmp_path / "a.tif", head + entry * count + bytes(8))) == "not_a_raster"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"compress": "deflate"},
        {"compress": "zstd", "tiled": True, "blockxsize": 64, "blockysize": 64},
        {"compress": "lzw"},
    ],
)
def test_ordinary_files_pass(tmp_path, changes):
    """What GDAL writes for people is let in."""
    check_file("post", raster(tmp_path / "a.tif", **changes), settings(tmp_path))


def test_small_scenes_of_nothing_pass(tmp_path):
    """A scene that is all no data compresses hundreds of times, and is no attack."""
    path = tmp_path / "a.tif"
    profile = {"driver": "GTiff", "count": 2, "height": 2000, "width": 2000, "dtype": "float32", "nodata": float("nan")}
    with rasterio.open(path, "w", **profile, crs="EPSG:32630", transform=AT, compress="deflate") as file:
        file.write(np.full((2, 2000, 2000), np.nan, np.float32))
    assert path.stat().st_size < 32_000_000 / 250
    check_file("post", path, settings(tmp_path))


def png(width, height, data):
    """Return a PNG of 8 bits grey."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (png(100_000, 100_000, b""), "too_large"),
        (png(4001, 4000, b""), "too_large"),
        (b"\x89PNG\r\n\x1a\n", "truncated"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "truncated"),
    ],
)
def test_hostile_pictures_are_refused_by_their_header(tmp_path, content, code):
    """A picture is decoded whole, so that its header decides; other inputs may be none at all."""
    path = written(tmp_path / "a.png", content)
    assert refused(path, "interferogram") == code
    assert refused(path, "coherence") == "not_a_raster"


def test_polygons_are_bounded(tmp_path):
    """Polygons are held in memory: many are refused unread, and what is no JSON is none."""
    large = written(tmp_path / "a.geojson", b"{" + b" " * POLYGON_BYTES)
    assert refused(large, "aoi") == "too_large"
    assert refused(written(tmp_path / "b.geojson", b"{nothing"), "exclude") == "not_a_raster"
    assert refused(written(tmp_path / "c.geojson", b'{"a":' * 100_000), "exclude") == "not_a_raster"
    check_file(
        "aoi", written(tmp_path / "d.geojson", b'{"type": "FeatureCollection", "features": []}'), settings(tmp_path)
    )


@pytest.fixture
def listener():
    """Return the address of a server that remembers what it was asked."""
    asked = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "9")
            self.end_headers()
            self.wfile.write(b"EPSG:4326")

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("place", ["collection", "geometry", "upper case", "escaped", "topology", "twice"])
def test_polygons_fetch_no_crs(tmp_path, listener, place):
    """GDAL would ask the server that a GeoJSON names for its CRS, wherever it is named; nobody is asked."""
    address, asked = listener
    link = {"type": "link", "properties": {"href": f"{address}/crs"}}
    square = {"type": "Polygon", "coordinates": [[[-3, 39.7], [-2.9, 39.7], [-2.9, 39.8], [-3, 39.7]]]}
    feature = {"type": "Feature", "properties": {}, "geometry": square}
    document = {"type": "FeatureCollection", "features": [feature]}
    text = {
        "collection": json.dumps(document | {"crs": link}),
        "geometry": json.dumps(document | {"features": [feature | {"geometry": square | {"crs": link}}]}),
        "upper case": json.dumps(document | {"CRS": link}),
        "escaped": json.dumps(document | {"crs": link}).replace('"crs"', '"\\u0063rs"'),
        "topology": json.dumps({"type": "Topology", "crs": link, "objects": {}, "arcs": []}),
        "twice": json.dumps(document | {"crs": link})[:-1] + ', "crs": null}',
    }[place]
    path = written(tmp_path / "a.geojson", text.encode())
    from rasterio.crs import CRS

    from tocsin.grid import Grid

    with pytest.raises(TocsinError) as caught:
        rasterise(path, Grid(CRS.from_epsg(32630), AT, 64, 64))
    assert caught.value.code == "forbidden_reference"
    assert asked == []


def test_scoring_beyond_the_memory_of_a_worker_is_refused(tmp_path, score_flood, write_raster, backscatter):
    """The estimate of the plan is held against what a worker has."""
    planned = score_flood(write_raster(tmp_path / "a.tif", backscatter(64, 64)), dry_run=True)
    needed = planned.summary.expected_peak_bytes
    check_memory(planned, settings(tmp_path, worker_memory_bytes=needed))
    with pytest.raises(TocsinError) as caught:
        check_memory(planned, settings(tmp_path, worker_memory_bytes=needed - 1))
    assert caught.value.code == "too_large"


# In the process that looks.


@pytest.fixture
def inspected(tmp_path, logistic_models):
    """Return a function that inspects a flood scene in a process of its own."""
    (tmp_path / "state").mkdir()

    def call(inputs, hazard="flood", aoi=None, **limits):
        options = ScoringOptions(model_repository=logistic_models, quiet=True, aoi=aoi)
        named = {name: str(path) for name, path in inputs.items()}
        return run(inspect, hazard, named, options, settings(tmp_path, **limits))

    return call


def test_plan_is_that_of_a_dry_run(inspected, tmp_path, score_flood, write_raster, backscatter):
    """What is said before acceptance is what `--dry-run` says."""
    path = write_raster(tmp_path / "a.tif", backscatter(100, 150))
    planned = inspected({"post": path})
    assert planned.summary == score_flood(path, dry_run=True).summary
    assert planned.scene.shape == (100, 150)
    assert planned.products == {}


def test_refusals_come_back_from_the_process(tmp_path, logistic_models, write_raster, backscatter):
    """Errors of files keep their code on the way, also those that only GDAL or the values tell."""
    (tmp_path / "state").mkdir()
    paths = [
        written(tmp_path / "huge.tif", tiff(*image(100_000, 100_000))),
        write_raster(tmp_path / "linear.tif", np.full((2, 64, 64), 0.1, np.float32)),
        write_raster(tmp_path / "bands.tif", backscatter(64, 64)[:1]),
        raster(tmp_path / "turned.tif", transform=AT * Affine.rotation(30)),
    ]
    options = ScoringOptions(model_repository=logistic_models, quiet=True)

    async def codes():
        found = {}
        for path in paths:
            with pytest.raises(TocsinError) as caught:
                await inspect("flood", {"post": str(path)}, options, settings(tmp_path))
            found[path.stem] = caught.value.code
        return found

    assert run(codes) == {
        "huge": "too_large",
        "linear": "wrong_units",
        "bands": "wrong_bands",
        "turned": "grid_mismatch",
    }


def _die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def _hang(*_):
    threading.Event().wait()


def _limit(*_):
    checks._bound_memory()
    return resource.getrlimit(resource.RLIMIT_DATA)[0]


def test_file_that_ends_the_process_ends_nothing_else(inspected, tmp_path, monkeypatch):
    """When a library dies over a file, the file is refused and the service goes on."""
    monkeypatch.setattr(checks, "look", _die)
    with pytest.raises(TocsinError) as caught:
        inspected({"post": raster(tmp_path / "a.tif")})
    assert caught.value.code == "truncated"


def test_file_that_takes_too_long_is_given_up(inspected, tmp_path, monkeypatch):
    """The process is ended with the patience that is set."""
    monkeypatch.setattr(checks, "look", _hang)
    with pytest.raises(TocsinError) as caught:
        inspected({"post": raster(tmp_path / "a.tif")}, inspect_timeout_s=3)
    assert caught.value.code == "deadline_exceeded"


def test_process_is_kept_at_hand(monkeypatch):
    """A process is there before the first file, and is asked again and again; three failures in a row are said."""
    asked = []

    async def ask(function, **_):
        asked.append(function)
        if len(asked) in {1, 2} or len(asked) > 5:
            message = "no room"
            raise BrokenWorkerProcess(message)

    monkeypatch.setattr(checks.to_process, "run_sync", ask)
    monkeypatch.setattr(checks, "IDLE_S", 0)
    with pytest.raises(TocsinError, match="no room") as caught:
        run(checks.keep_ready)
    assert caught.value.code == "runtime_unavailable"
    assert asked == [checks.prepare] * 8
    checks.prepare()


def test_memory_of_the_process_is_bounded():
    """A header that slips through every check meets a limit."""
    assert run(to_process.run_sync, _limit) == checks.PROCESS_BYTES


def test_products_need_room(inspected, tmp_path, write_raster, backscatter, monkeypatch):
    """What could not be stored is not begun."""
    path = write_raster(tmp_path / "a.tif", backscatter(64, 64))
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(TocsinError) as caught:
        inspected({"post": path})
    assert caught.value.code == "storage_full"
