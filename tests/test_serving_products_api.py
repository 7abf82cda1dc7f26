"""Products are downloaded whole or in ranges, and nothing else is."""

import numpy as np
import pytest

pytest.importorskip("starlette", reason="needs the extra serve")

import rasterio
from rasterio.transform import from_origin
from service_stand_ins import listening
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route
from starlette.testclient import TestClient

from serving.border import refused
from serving.products_api import COG, product_response, satisfiable
from tocsin.errors import TocsinError

BODY = bytes(range(200))


@pytest.fixture
def folder(tmp_path):
    """Return a folder with a product, a hidden file, a working file, and a secret beside the folder."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "scene_class.tif").write_bytes(BODY)
    (out / "scene_polygons.geojson").write_text("{}")
    (out / ".result.json").write_text("{}")
    (out / "notes.txt").write_text("no product")
    (tmp_path / "secret.tif").write_bytes(b"secret")
    (out / "link.tif").symlink_to(tmp_path / "secret.tif")
    return out


@pytest.fixture
def application(folder):
    """Return an application that offers that folder."""

    async def download(request: Request):
        return product_response(request, folder, request.path_params["file"])

    return Starlette(routes=[Route("/{file:path}", download)], exception_handlers={TocsinError: refused})


@pytest.fixture
def client(application):
    """Return a client of it."""
    with TestClient(application) as made:
        yield made


def test_a_product_comes_whole(client):
    """A COG comes with its media type, its length, an ETag, and the offer of ranges."""
    got = client.get("/scene_class.tif")
    assert (got.status_code, got.content, got.headers["content-type"]) == (200, BODY, COG)
    assert (got.headers["accept-ranges"], got.headers["content-length"]) == ("bytes", "200")
    assert got.headers["etag"].startswith('"')


def test_head_tells_the_size(client):
    """HEAD has the headers of GET and no body."""
    got, whole = client.head("/scene_class.tif"), client.get("/scene_class.tif")
    assert got.content == b""
    assert dict(got.headers) == dict(whole.headers)


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [("bytes=0-9", 0, 9), ("bytes=190-", 190, 199), ("bytes=-5", 195, 199), ("bytes=150-900", 150, 199)],
)
def test_a_range_comes_alone(client, asked, first, last):
    """One range is answered with 206 and where it lies."""
    got = client.get("/scene_class.tif", headers={"Range": asked})
    assert (got.status_code, got.content) == (206, BODY[first : last + 1])
    assert got.headers["content-range"] == f"bytes {first}-{last}/200"


def test_several_ranges_come_in_one_body(client):
    """Several ranges are answered as multipart/byteranges; one beyond the end is left out."""
    got = client.get("/scene_class.tif", headers={"Range": "bytes=0-1, 100-101, 5000-5001"})
    assert got.status_code == 206
    assert got.headers["content-type"].startswith("multipart/byteranges")
    assert BODY[0:2] in got.content
    assert BODY[100:102] in got.content
    assert got.content.count(b"Content-Range") == 2


@pytest.mark.parametrize("asked", ["bytes=200-", "bytes=500-600", "bytes=-0"])
def test_a_range_beyond_the_end_is_a_problem(client, asked):
    """416 says how long the product is, as a problem."""
    got = client.get("/scene_class.tif", headers={"Range": asked})
    assert (got.status_code, got.headers["content-range"]) == (416, "bytes */200")
    assert (got.headers["content-type"], got.json()["code"]) == ("application/problem+json", "usage")


@pytest.mark.parametrize(
    "asked", ["", "bytes", "bytes=", "bytes=x-y", "lines=0-1", "bytes=9-3", "bytes=٣-٤", "bytes=-"]
)
def test_what_is_no_range_is_ignored(client, asked):
    """RFC 9110: an invalid Range is as none."""
    got = client.get("/scene_class.tif", headers={"Range": asked.encode()})
    assert (got.status_code, got.content) == (200, BODY)


def test_if_range_of_another_product_gets_it_whole(client):
    """A range of what has changed meanwhile is not sent."""
    etag = client.get("/scene_class.tif").headers["etag"]
    same = client.get("/scene_class.tif", headers={"Range": "bytes=0-9", "If-Range": etag})
    other = client.get("/scene_class.tif", headers={"Range": "bytes=0-9", "If-Range": '"other"'})
    assert (same.status_code, other.status_code) == (206, 200)


def test_what_a_client_holds_is_not_sent_again(client):
    """304 answers the ETag that a client holds, also weak, in a list, or any."""
    etag = client.get("/scene_class.tif").headers["etag"]
    for held in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        got = client.get("/scene_class.tif", headers={"If-None-Match": held})
        assert (got.status_code, got.content, got.headers["etag"]) == (304, b"", etag)
    assert client.get("/scene_class.tif", headers={"If-None-Match": '"x"'}).status_code == 200


@pytest.mark.parametrize(
    "name", [".result.json", "notes.txt", "missing.tif", "link.tif", "..%2Fsecret.tif", "%2Fetc%2Fpasswd", "a%00b.tif"]
)
def test_nothing_but_products_is_offered(client, name):
    """Hidden files, other files, links and paths out of the folder are not there."""
    got = client.get(f"/{name}")
    assert (got.status_code, got.json()["code"]) == (404, "not_found")


def test_a_job_without_products_has_none(client, folder):
    """A folder that is gone is a product that is not there."""
    folder.rename(folder.with_name("gone"))
    assert client.get("/scene_class.tif").status_code == 404


def test_ranges_of_nothing():
    """An empty file has no range."""
    assert satisfiable("bytes=0-", 0) == ""
    assert satisfiable("bytes=-1", 0) == ""


def test_gdal_reads_a_window_in_place(application, folder):
    """GDAL reads one block of a tiled raster over HTTP, by ranges, without the rest."""
    values = np.arange(1024 * 1024, dtype=np.uint32).reshape(1, 1024, 1024)
    profile = {"driver": "GTiff", "width": 1024, "height": 1024, "count": 1, "dtype": "uint32", "crs": "EPSG:32630"}
    profile |= {"tiled": True, "blockxsize": 128, "blockysize": 128, "transform": from_origin(5e5, 4e6, 10, 10)}
    with rasterio.open(folder / "big.tif", "w", **profile) as made:
        made.write(values)
    sent = []

    async def counted(scope, receive, send):
        async def tell(message):
            sent.append(len(message.get("body", b"")))
            await send(message)

        await application(scope, receive, tell)

    with (
        listening(counted) as where,
        rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"),
        rasterio.open(f"/vsicurl/{where}/big.tif") as found,
    ):
        window = found.read(1, window=((512, 640), (256, 384)))
    assert (window == values[0, 512:640, 256:384]).all()
    assert sum(sent) < 1 << 20
