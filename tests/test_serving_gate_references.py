import json
import stat
import tracemalloc
from pathlib import Path

import pytest
from gate_stand_ins import make_authority, resolver, run, serve, settings

from serving.gate import references
from serving.gate.download import DOCUMENT_BYTES
from serving.gate.references import Reference, fetch
from tocsin.errors import TocsinError

HOST = "data.example.org"
LOCAL = Path("/etc/passwd").as_uri()
KNOWN = {"data__example__org": "127.0.0.1", "other__example__org": "127.0.0.1"}


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """Return a certificate authority and the context of a server that it vouches for."""
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def archive(authority, tmp_path):
    """Return a function that serves answers over https and fetches what is asked from them."""
    path, context = authority

    def ask(answers, asked, *, hazard="flood", known=None, hosts=(HOST,), **named):
        with serve(answers, context) as server:
            port = server.server_port
            text = json.dumps(asked).replace("PORT", str(port))
            for name, (status, headers, body) in list(answers.items()):
                moved = {key: value and value.replace("PORT", str(port)) for key, value in headers.items()}
                filled = body.replace(b"PORT", str(port).encode()) if isinstance(body, bytes) else body
                answers[name] = (status, moved, filled)
            allowing = {
                "reference_networks": ("127.0.0.0/8",),
                "reference_ca": path,
                "allowed_hosts": tuple(f"{host}:{port}" for host in hosts),
            }
            allowing["allowed_roots"] = tuple(root.replace("PORT", str(port)) for root in named.pop("roots", ()))
            resolve = known or resolver(**KNOWN)
            try:
                found = run(
                    fetch, hazard, json.loads(text), tmp_path / "in", settings(tmp_path, **allowing | named), resolve
                )
            except TocsinError:
                assert not (tmp_path / "in").exists()
                raise
            finally:
                ask.asked = [line for _, line in server.asked]
            return found

    return ask


def code(archive, answers, asked, **named):
    """Code of the error with which references are refused."""
    with pytest.raises(TocsinError) as caught:
        archive(answers, asked, **named)
    assert "secret" not in str(caught.value)
    return caught.value.code


def at(path="/a.tif", host=HOST):
    """Return a reference to the server of a test."""
    return f"https://{host}:PORT{path}"


def test_files_are_fetched_into_a_private_folder(archive):
    """A named file is there under its own name, for this user only, and was asked for with its query."""
    found = archive(
        {"/rtc/S1_VV.tif": (200, {}, b"vv"), "/b.tif": (200, {}, b"b")},
        {
            "post": [at("/rtc/S1_VV.tif?sig=secret")],
            "dem": at("/b.tif"),
        },
    )
    path = found["post"][0]
    assert (path.name, path.read_bytes(), found["dem"][0].read_bytes()) == ("S1_VV.tif", b"vv", b"b")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert archive.asked == ["/rtc/S1_VV.tif?sig=secret", "/b.tif"]


@pytest.mark.parametrize(
    "href",
    [
        "http://data.example.org/a.tif",
        LOCAL,
        "/etc/passwd",
        "scene.tif",
        "/vsicurl/https://data.example.org/a.tif",
        "vrt://https://data.example.org/a.tif",
        "ftp://data.example.org/a.tif",
        "gs://bucket/a.tif",
        "https:///a.tif",
        "https://[::1/a.tif",
        "https://evil.example.org/a.tif",
        "https://data.example.org.evil.org/a.tif",
        "https://data.example.org@evil.org/a.tif",
        "https://data.example.org\\@evil.org/a.tif",
        "https://user:secret@data.example.org/a.tif",
        "https://data.example.org:8443/a.tif",
        "https://127.0.0.1/a.tif",
        "https://169.254.169.254/latest/meta-data",
        "https://root.example.org/other/a.tif",
        "https://root.example.org/rtcX/a.tif",
        "https://root.example.org/rtc/../other/a.tif",
        "https://root.example.org/rtc/%2e%2e/other/a.tif",
        "https://root.example.org/rtc/..%2fother/a.tif",
        "s3://other/a.tif",
        "s3://bucket.evil/a.tif",
        "s3://bucket/a.tif?versionId=1",
        "s3://rooted/other/a.tif",
        "s3://rooted/rtc/../a.tif",
    ],
)
def test_places_that_are_not_listed_are_forbidden(tmp_path, href):
    """Another scheme, a path of the server, a host, bucket or root that is not listed: nothing is asked of anybody."""
    allowing = settings(
        tmp_path,
        allowed_hosts=(HOST,),
        allowed_buckets=("bucket",),
        allowed_roots=("https://root.example.org/rtc", "s3://rooted/rtc/"),
    )
    with pytest.raises(TocsinError) as caught:
        run(fetch, "flood", {"post": href}, tmp_path / "in", allowing, resolver())
    assert caught.value.code == "forbidden_reference"
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "href",
    [
        "https://data.example.org/a.tif",
        "https://DATA.example.org:443/a/b.tif?sig=x",
        "https://root.example.org/rtc/2020/a.tif",
        "s3://bucket/a.tif",
        "s3://rooted/rtc/a.tif",
    ],
)
def test_listed_places_are_allowed(tmp_path, href):
    """A host, a bucket or the beginning of a URL is enough."""
    allowing = settings(
        tmp_path,
        allowed_hosts=("Data.Example.org",),
        allowed_buckets=("bucket",),
        allowed_roots=("https://root.example.org/rtc", "s3://rooted/rtc/"),
    )
    assert Reference.of(href, allowing).href == href


@pytest.mark.parametrize("value", [1, None, "", "https://data.example.org/\n", "h" * 5000, {"a": 1}, [], [[]]])
def test_values_that_are_no_reference_are_refused(tmp_path, value):
    """JSON of any shape is answered, not believed."""
    with pytest.raises(TocsinError) as caught:
        run(fetch, "flood", {"post": value}, tmp_path / "in", settings(tmp_path, allowed_hosts=(HOST,)))
    assert caught.value.code == "usage"


def test_unknown_inputs_and_too_many_are_refused(tmp_path):
    """The inputs are those of a form."""
    allowing = settings(tmp_path, allowed_hosts=(HOST,))
    for asked in ({"interferogram": f"https://{HOST}/a.tif"}, {"post": [f"https://{HOST}/a.tif"] * 3}):
        with pytest.raises(TocsinError) as caught:
            run(fetch, "flood", asked, tmp_path / "in", allowing)
        assert caught.value.code == "usage"


def test_redirects_are_followed_where_allowed(archive):
    """A redirect to an allowed host is followed, relative ones too."""
    answers = {
        "/a.tif": (302, {"Location": "/b.tif"}, b""),
        "/b.tif": (307, {"Location": at("/c.tif", "other.example.org")}, b""),
    }
    answers["/c.tif"] = (200, {}, b"c")
    found = archive(answers, {"post": at()}, hosts=(HOST, "other.example.org"))
    assert found["post"][0].read_bytes() == b"c"
    assert found["post"][0].name == "a.tif"


@pytest.mark.parametrize(
    "location",
    [
        "https://other.example.org:PORT/b.tif",
        "http://data.example.org:PORT/b.tif",
        "https://169.254.169.254/latest/meta-data",
        LOCAL,
        "//other.example.org:PORT/b.tif",
        "s3://bucket/key",
    ],
)
def test_redirects_elsewhere_are_forbidden(archive, location):
    """Behind an allowed host nothing else is reached: not a host, not a scheme, not the metadata of a cloud."""
    answers = {"/a.tif": (302, {"Location": location}, b""), "/b.tif": (200, {}, b"b")}
    assert code(archive, answers, {"post": at()}) == "forbidden_reference"
    assert archive.asked == ["/a.tif"]


def test_redirect_into_a_private_network_is_forbidden(archive):
    """An allowed name that leads to a private address is refused after a redirect as at first."""
    answers = {"/a.tif": (302, {"Location": at("/b.tif", "other.example.org")}, b""), "/b.tif": (200, {}, b"b")}
    known = resolver(data__example__org="127.0.0.1", other__example__org="10.0.0.7")
    assert (
        code(archive, answers, {"post": at()}, known=known, hosts=(HOST, "other.example.org")) == "forbidden_reference"
    )


def test_name_that_changes_its_address_is_judged_each_time(archive):
    """A name that is public at first and private later is never followed to the private address (DNS rebinding)."""
    known = resolver(data__example__org=["127.0.0.1", "10.0.0.7"])
    answers = {"/a.tif": (302, {"Location": "/b.tif"}, b""), "/b.tif": (200, {}, b"b")}
    assert code(archive, answers, {"post": at()}, known=known) == "forbidden_reference"
    assert archive.asked == ["/a.tif"]
    assert known.asked == [HOST, HOST]


def test_loopback_is_forbidden_without_leave(archive):
    """An allowed host that is this very machine is not asked."""
    assert code(archive, {"/a.tif": (200, {}, b"a")}, {"post": at()}, reference_networks=()) == "forbidden_reference"
    assert archive.asked == []


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((404, {}, b"no secret here"), "usage"),
        ((500, {}, b""), "usage"),
        ((206, {}, b"part"), "usage"),
        ((302, {}, b""), "usage"),
        ((302, {"Location": "/a.tif"}, b""), "usage"),
        ((302, {"Location": "https://[::1"}, b""), "usage"),
        ((200, {"Content-Encoding": "gzip"}, b"x"), "usage"),
        ((200, {"Content-Length": "1000"}, b"cut"), "truncated"),
        ((200, {"Content-Length": "100001"}, b""), "too_large"),
        ((200, {"Content-Length": None}, [bytes(1000)] * 101), "too_large"),
    ],
)
def test_bad_answers_have_their_codes(archive, answer, expected):
    """What a server may do instead of sending a file ends as an error that says so."""
    assert code(archive, {"/a.tif": answer}, {"post": at()}, max_body_bytes=100_000) == expected


def test_limit_holds_for_all_files_together(archive):
    """A request may not bring more by reference than by upload."""
    answers = {"/a.tif": (200, {}, bytes(600)), "/b.tif": (200, {}, bytes(600))}
    assert code(archive, answers, {"post": at(), "dem": at("/b.tif")}, max_body_bytes=1000) == "too_large"


def test_fetching_ends_in_time(archive):
    """A server that sends a little now and then is cut off."""

    def drops():
        while not done:
            yield b"x"
            stop.wait(0.05)

    import threading

    done, stop = [], threading.Event()
    try:
        answers = {"/a.tif": (200, {"Content-Length": None}, drops())}
        assert code(archive, answers, {"post": at()}, fetch_timeout_s=0.5) == "deadline_exceeded"
    finally:
        done.append(True)


def test_memory_does_not_grow_with_the_file(archive):
    """32 MB are fetched with less than 12 MB of memory, the server's included."""
    block = bytes(1 << 16)
    tracemalloc.start()
    found = archive({"/a.tif": (200, {"Content-Length": str(32 << 20)}, (block for _ in range(512)))}, {"post": at()})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found["post"][0].stat().st_size == 32 << 20
    assert peak < 12 << 20


def item(**assets):
    """Return a STAC item with these assets."""
    facts = {"type": "Feature", "stac_version": "1.0.0", "id": "a", "geometry": None, "bbox": None, "links": []}
    return json.dumps(facts | {"properties": {"datetime": "2020-01-01T00:00:00Z"}, "assets": assets}).encode()


def test_items_are_replaced_by_their_assets(archive):
    """An item in the place of an acquisition is its VV and VH; relative references begin at the item."""
    answers = {
        "/i/a.json": (200, {}, item(VV={"href": "./a_VV.tif"}, VH={"href": at("/i/a_VH.tif")})),
        "/i/a_VV.tif": (200, {}, b"vv"),
        "/i/a_VH.tif": (200, {}, b"vh"),
    }
    found = archive(answers, {"post": at("/i/a.json")})
    assert [path.read_bytes() for path in found["post"]] == [b"vv", b"vh"]


def test_one_item_may_hold_all_inputs(archive):
    """Assets are inputs by their name; what the request names itself wins."""
    held = item(post={"href": "p.tif"}, dem={"href": "d.tif"}, thumb={"href": "t.png", "roles": ["thumbnail"]})
    answers = {"/a.json": (200, {}, held), "/p.tif": (200, {}, b"p"), "/e.tif": (200, {}, b"e")}
    found = archive(answers, {"item": at("/a.json"), "dem": at("/e.tif")})
    assert {name: [path.read_bytes() for path in paths] for name, paths in found.items()} == {
        "post": [b"p"],
        "dem": [b"e"],
    }


@pytest.mark.parametrize(
    "href",
    [
        "https://evil.example.org/a.tif",
        LOCAL,
        "/vsicurl/http://x/a.tif",
        "http://data.example.org/a.tif",
    ],
)
def test_assets_are_judged_as_references(archive, href):
    """What an item leads to is no more allowed than what a request names."""
    answers = {"/a.json": (200, {}, item(VV={"href": href}, VH={"href": href}))}
    assert code(archive, answers, {"post": at("/a.json")}) in {"forbidden_reference", "usage"}
    assert archive.asked == ["/a.json"]


@pytest.mark.parametrize("body", [b"no json", b"[]", b"{}", b'{"type": "Feature"}', b"[" * 100_000])
def test_documents_that_are_no_items_are_refused(archive, body):
    """JSON of any other shape is told so."""
    assert code(archive, {"/a.json": (200, {}, body)}, {"post": at("/a.json")}) == "usage"


def test_item_without_end_is_too_large(archive):
    """A document is read to 4 MiB and no further."""
    answers = {"/a.json": (200, {"Content-Length": None}, [bytes(1 << 20)] * ((DOCUMENT_BYTES >> 20) + 1))}
    assert code(archive, answers, {"post": at("/a.json")}) == "too_large"


def test_objects_of_buckets_are_signed(tmp_path, monkeypatch):
    """An s3 reference is asked for at the operator's endpoint, signed, and its signature is in no message."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-key")
    with serve(
        {"/bucket/rtc/a%20b.tif": (200, {}, b"object"), "/bucket/gone.tif": (301, {"Location": "/x"}, b"")}
    ) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://store.example.org:{server.server_port}")
        allowing = settings(tmp_path, allowed_buckets=("bucket",), reference_networks=("127.0.0.0/8",))
        known = resolver(store__example__org="127.0.0.1")
        found = run(fetch, "flood", {"post": "s3://bucket/rtc/a b.tif"}, tmp_path / "in", allowing, known)
        assert found["post"][0].read_bytes() == b"object"
        assert "X-Amz-Signature=" in server.asked[0][1]
        assert "secret-key" not in server.asked[0][1]
        with pytest.raises(TocsinError) as caught:
            run(fetch, "flood", {"post": "s3://bucket/gone.tif"}, tmp_path / "two", allowing, known)
    assert "AWS_REGION" in str(caught.value)
    assert "X-Amz" not in str(caught.value)


def test_public_buckets_need_no_credentials(tmp_path, monkeypatch):
    """With AWS_SKIP_SIGNATURE nothing is signed, and the region says where."""
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    reference = Reference.of("s3://bucket/rtc/a.tif", settings(tmp_path, allowed_buckets=("bucket",)))
    target = run(reference.target)
    assert str(target.url) == "https://s3.eu-central-1.amazonaws.com/bucket/rtc/a.tif"
    assert "amazonaws" not in repr(target)


def test_objects_without_credentials_are_said(tmp_path, monkeypatch):
    """A service that cannot sign says so, and keeps to itself why."""
    import obstore
    from obstore.exceptions import GenericError

    async def refuse(*_):
        raise GenericError("http://169.254.169.254 secret")

    monkeypatch.setattr(obstore, "sign_async", refuse)
    with pytest.raises(TocsinError) as caught:
        run(Reference.of("s3://bucket/a.tif", settings(tmp_path, allowed_buckets=("bucket",))).target)
    assert caught.value.code == "runtime_unavailable"
    assert "169.254" not in str(caught.value)


def test_references_are_shown_without_secrets(tmp_path):
    """Neither query nor fragment of a reference is in a message."""
    shown = Reference.of(f"https://{HOST}/a.tif?sig=secret#secret", settings(tmp_path, allowed_hosts=(HOST,))).shown
    assert shown == f"https://{HOST}/a.tif"
    assert references.LONGEST < 10_000
