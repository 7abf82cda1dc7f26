"""What a client sends, where it sends it, and what it never does."""

import json
from pathlib import Path

import httpx
import pytest
from client_stand_ins import JOB, PRODUCTS, URL

import tocsin
from tocsin.client_request import FILES
from tocsin.client_wire import JobFailure, RemoteJob, address
from tocsin.errors import DeadlineExceededError, InternalError, UsageError


@pytest.mark.parametrize(
    "changes",
    [
        {"products": {"class": f"/v1/products/{JOB}/../../etc/passwd"}},
        {"scene": {"id": "../outside"}},
        {"products": {"class": f"/v1/products/{JOB}/other_class.tif"}},
    ],
)
def test_no_name_leaves_the_folder(changes, client_call, written_service, sent_scene, tmp_path):
    """A service cannot choose where a file is written."""
    said = written_service.result()
    said = {**said, **changes, "scene": said["scene"] | changes.get("scene", {})}
    written_service.script = [httpx.Response(200, json=said, headers={"X-Job-ID": JOB})]
    with pytest.raises(InternalError):
        client_call("score", "flood", post=sent_scene, out=tmp_path / "out")
    assert len(written_service.requests) == 1


def test_absolute_links_get_no_token(client_call, written_service, sent_scene, tmp_path):
    """Links of a public address are fetched from the service that was asked: the token goes nowhere else."""
    written_service.links = {
        name: f"https://evil.example.org/v1/products/{JOB}/{file}" for name, file in PRODUCTS.items()
    }
    client_call("score", "flood", post=sent_scene, out=tmp_path / "out")
    assert {each.url.host for each in written_service.requests} == {"tocsin.example.org"}


def test_jobs_can_be_handled_one_by_one(client_call, written_service, sent_scene, tmp_path):
    """Submit returns the job at once; it can be listed, looked at, waited for, cancelled and fetched."""
    assert client_call("submit", "flood", post=sent_scene).state == "queued"
    assert written_service.requests[-1].headers["prefer"] == "respond-async"
    assert [job.id for job in client_call("jobs")] == [JOB]
    written_service.states = ["running", "running", "done", "done"]
    assert client_call("job", JOB).progress == 0.25
    assert client_call("wait", JOB).outcome().summary.water_km2 == 1.0
    assert client_call("download", JOB, tmp_path / "out").status == "ok"
    assert client_call("cancel", JOB).state == "cancelled"
    assert client_call("models") == ()
    assert client_call("plan", "flood", post=sent_scene).hazard == "flood"


def test_waiting_may_end_early(client_call, written_service):
    """With a timeout the job goes on and the waiting ends; a job that is not over has no outcome."""
    written_service.states = ["running"] * 9
    with pytest.raises(DeadlineExceededError):
        client_call("wait", JOB, 5)
    with pytest.raises(UsageError):
        client_call("job", JOB).outcome()


@pytest.mark.parametrize("wrong", ["", "../models", "a/b", "a?b"])
def test_id_of_a_job_is_no_path(wrong, client_call, written_service):
    """An id that would be another path is refused before anything is sent."""
    with pytest.raises(UsageError):
        client_call("job", wrong)
    assert written_service.requests == []


def test_references_are_sent_as_json(client_call, written_service, tmp_path):
    """Where every input is a reference the service fetches them; beside files they are refused."""
    client_call(
        "plan", "landslide", pre=["s3://b/1.tif"], post=["s3://b/2.tif", "s3://b/3.tif"], units="linear", dem=None
    )
    assert json.loads(written_service.requests[-1].content) == {
        "pre": ["s3://b/1.tif"],
        "post": ["s3://b/2.tif", "s3://b/3.tif"],
        "units": "linear",
    }
    with pytest.raises(UsageError, match="beside files"):
        client_call("plan", "flood", post="https://x/scene.tif", dem=tmp_path / "dem.tif")


def test_folder_and_pair_are_sent_as_two_files(client_call, written_service, tmp_path):
    """An acquisition that is a folder or a pair is sent as its two polarisations."""
    for name in ("a_VV.tif", "a_VH.tif", "a_mask.tif"):
        (tmp_path / name).write_bytes(name.encode())
    pair = f"{tmp_path / 'a_VV.tif'};{tmp_path / 'a_VH.tif'}"
    for post in (tmp_path, pair):
        client_call("plan", "flood", post=post)
        sent = written_service.requests[-1].content
        assert sent.count(b'name="post"; filename=') == 2
        assert b"a_mask" not in sent


def test_wrong_arguments_are_refused_here(client_call, written_service, tmp_path):
    """A hazard that there is not, and a file that is not there, are refused before anything is sent."""
    with pytest.raises(UsageError, match="fire"):
        client_call("plan", "fire", post="x.tif")
    with pytest.raises(UsageError, match="does not exist"):
        client_call("plan", "flood", post=tmp_path / "nowhere.tif")
    with pytest.raises(UsageError, match="folder"):
        client_call("plan", "volcano", interferogram=tmp_path)
    assert written_service.requests == []


@pytest.mark.parametrize(
    "wrong", ["tocsin.example.org", "ftp://x", "https://", "https://u:p@x", "https://x?y", "http://x y"]
)
def test_address_is_checked(wrong):
    """What is no address of a service is refused."""
    with pytest.raises(UsageError):
        address(wrong)


def test_token_comes_from_the_environment(monkeypatch, written_service, caplog):
    """Without a token TOCSIN_TOKEN is sent; in clear text to another machine with a warning, a broken one never."""
    monkeypatch.setenv("TOCSIN_TOKEN", "from-outside")
    with tocsin.Client("http://tocsin.example.org/ops", transport=httpx.MockTransport(written_service)) as client:
        client.models()
    assert written_service.requests[-1].headers["authorization"] == "Bearer from-outside"
    assert "clear text" in caplog.text
    with pytest.raises(UsageError):
        tocsin.Client(URL, "two words")


def test_files_are_those_of_the_service():
    """The client calls the same inputs files as the service does."""
    inputs = pytest.importorskip("serving.gate.inputs", reason="needs the extra serve")
    assert {hazard: set(files) for hazard, files in FILES.items()} == {
        hazard: set(files) for hazard, files in inputs.FILES.items()
    }


def test_jobs_are_those_of_the_service():
    """The client knows every field that the service tells of a job, and no other."""
    views = pytest.importorskip("serving.views", reason="needs the extra serve")
    assert RemoteJob.model_fields.keys() == views.JobView.model_fields.keys()
    assert JobFailure.model_fields.keys() == views.JobFailure.model_fields.keys()


def test_downloads_are_not_kept_in_memory(written_service, sent_scene, tmp_path):
    """A product is written block by block: what is told of a download never jumps by the whole of it."""
    steps = []

    class Blocks(httpx.SyncByteStream):
        def __iter__(self):
            for _ in range(64):
                yield b"x" * 4096
                steps.append((tmp_path / "out").exists())

    whole = httpx.Response(200, stream=Blocks(), headers={"Content-Length": str(64 * 4096)})
    written_service.script = [None, whole]
    seen = []
    with tocsin.Client(URL, transport=httpx.MockTransport(written_service)) as client:
        client.score("flood", post=sent_scene, out=Path(tmp_path / "out"), on_progress=seen.append)
    downloads = [each.done for each in seen if each.stage == "download"][:64]
    assert downloads == [4096 * (k + 1) for k in range(64)]
    assert all(steps)
