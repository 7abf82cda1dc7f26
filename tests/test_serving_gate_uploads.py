import errno
import stat
import threading
import tracemalloc

import pytest
from gate_stand_ins import BOUNDARY, form, part, request, run, settings
from starlette.requests import ClientDisconnect, Request

from serving.gate import uploads
from serving.gate.inputs import Accepted
from serving.gate.uploads import receive
from tocsin.errors import TocsinError

ACCEPTED = Accepted("flood", frozenset({"threshold", "units"}))
FILE = part("post", b"II*\0bytes", "scene.tif")


def taken(tmp_path, body, accepted=ACCEPTED, **named):
    """Receive a form into the folder `in`."""
    asked = body if isinstance(body, Request) else request(body)
    return run(receive, asked, tmp_path / "in", accepted, settings(tmp_path, **named))


def refusal(tmp_path, body, **named):
    """Return the error with which a form is refused; nothing of it is left."""
    with pytest.raises(TocsinError) as caught:
        taken(tmp_path, body, **named)
    assert not (tmp_path / "in").exists()
    return caught.value


@pytest.mark.parametrize("size", [1, 7, 100, 1 << 20])
def test_files_and_fields_come_apart_however_they_are_cut(tmp_path, size):
    """The same files and texts come out, whatever the size of the chunks."""
    content = bytes(range(256)) * 3 + f"\r\n--{BOUNDARY[:4]}".encode() * 5
    body = form(part("post", content, "dir/scene VV.tif"), part("units", "db"), part("post", b"", "other_VH.tif"))
    received = taken(tmp_path, [body[at : at + size] for at in range(0, len(body), size)])
    first, second = received.files["post"]
    assert (first.name, first.read_bytes()) == ("scene_VV.tif", content)
    assert (second.name, second.read_bytes()) == ("other_VH.tif", b"")
    assert received.fields == {"units": "db"}


def test_folder_and_files_are_private(tmp_path):
    """Nobody else on the machine can enter the folder or read a file."""
    path = taken(tmp_path, form(FILE)).files["post"][0]
    for folder in (tmp_path / "in", path.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_memory_does_not_grow_with_the_upload(tmp_path):
    """64 MB pass with less than 8 MB of memory, and no disk is written on the event loop."""
    writers = set()
    plain = uploads.write_all

    def noted(file, block):
        writers.add(threading.get_ident())
        plain(file, block)

    chunk = bytes(1 << 16)
    head, tail = form(part("post", b"", "a.tif"))[: -len(f"\r\n--{BOUNDARY}--\r\n")], f"\r\n--{BOUNDARY}--\r\n".encode()

    def body():
        yield head
        for _ in range(1024):
            yield chunk
        yield tail

    tracemalloc.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uploads, "write_all", noted)
        received = taken(tmp_path, body())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert received.files["post"][0].stat().st_size == 64 << 20
    assert peak < 8 << 20
    assert writers
    assert threading.get_ident() not in writers


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (form(part("interferogram", b"x", "a.tif")), "usage"),
        (form(part("post", b"x", "..")), "usage"),
        (form(part("post", b"x", "")), "usage"),
        (form(FILE, FILE, FILE), "usage"),
        (form(part("colour", "red")), "usage"),
        (form(part("threshold", "9" * (17 << 10))), "too_large"),
        (form(part("threshold", b"\xff\xfe")), "usage"),
        (form(*[part("threshold", "1")] * 70), "usage"),
        (form(part("post", "/etc/passwd")), "forbidden_reference"),
        (form(part("post", "https://example.org/a.tif")), "forbidden_reference"),
        (form(part("post", "/vsicurl/https://example.org/a.tif")), "forbidden_reference"),
        (form(part("post", "<VRTDataset/>")), "forbidden_reference"),
        (form(part("post", "scene")), "usage"),
        (FILE, "truncated"),
        (FILE[:-10], "truncated"),
        (b"", "truncated"),
        (b"nonsense", "usage"),
        (f"--{BOUNDARY}\r\nX: y\r\n\r\nz\r\n--{BOUNDARY}--\r\n".encode(), "usage"),
        (f"--{BOUNDARY}\r\nX: {'y' * 100_000}".encode(), "usage"),
    ],
)
def test_bad_forms_are_refused(tmp_path, body, code):
    """Each bad form has its code, and leaves nothing behind."""
    assert refusal(tmp_path, body).code == code


@pytest.mark.parametrize(
    "kind",
    ["application/json", "multipart/form-data", "text/plain; boundary=x", "multipart/form-data; boundary=" + "b" * 300],
)
def test_other_bodies_are_refused(tmp_path, kind):
    """Only a form with a sensible boundary is one."""
    assert refusal(tmp_path, request(form(FILE), kind)).code == "usage"


def test_compressed_bodies_are_refused(tmp_path):
    """Nothing is decompressed on the way in."""
    assert refusal(tmp_path, request(form(FILE), content_encoding="gzip")).code == "usage"


def test_announced_body_over_the_limit_is_refused_unread(tmp_path):
    """The header is enough: an endless body is never asked for."""
    assert refusal(tmp_path, request([...], content_length=1001), max_body_bytes=1000).code == "too_large"


def test_body_over_the_limit_is_refused_as_it_comes(tmp_path):
    """A body that announces nothing is cut off at the limit."""
    endless = iter(lambda: bytes(1000), None)
    assert refusal(tmp_path, request(endless), max_body_bytes=100_000).code == "too_large"


def test_body_larger_than_the_disk_is_refused_unread(tmp_path):
    """What cannot be stored is not received."""
    assert refusal(tmp_path, request([...], content_length=1 << 60), max_body_bytes=1 << 62).code == "storage_full"


def test_full_disk_is_said(tmp_path, monkeypatch):
    """A disk that runs full during an upload is an error of its own, and the upload is removed."""

    def full(*_):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(uploads, "write_all", full)
    assert refusal(tmp_path, form(FILE)).code == "storage_full"


def test_sender_that_stops_is_let_go(tmp_path):
    """An upload that stands still ends, and is removed."""
    assert refusal(tmp_path, request([FILE, ...]), upload_idle_s=0.05).code == "deadline_exceeded"


def test_sender_that_leaves_leaves_nothing(tmp_path):
    """A client that goes away in the middle leaves no file."""
    asked = request(b"")
    messages = iter([{"type": "http.request", "body": FILE, "more_body": True}, {"type": "http.disconnect"}])

    async def leave():
        return next(messages)

    asked = Request(asked.scope, leave)
    with pytest.raises(ClientDisconnect):
        taken(tmp_path, asked)
    assert not (tmp_path / "in").exists()


def test_message_names_no_folder_of_the_server(tmp_path):
    """A refusal says nothing of where files lie."""
    assert str(tmp_path) not in str(refusal(tmp_path, form(FILE, FILE, FILE)))
