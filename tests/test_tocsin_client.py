"""`tocsin.Client` and `tocsin.AsyncClient` against a service whose answers are written down."""

import asyncio

import httpx
import pytest
from client_stand_ins import CONTENT, JOB, PRODUCTS, URL, Cut, names, problem

import tocsin
from tocsin.errors import (
    ForbiddenReferenceError,
    InternalError,
    InterruptedScoringError,
    ProductExistsError,
    QueueFullError,
    RuntimeUnavailableError,
    UnauthorizedError,
    WrongUnitsError,
)


def test_small_scene_comes_back_with_its_products(client_call, written_service, sent_scene, tmp_path):
    """A scene that is answered at once is fetched whole; its result is that of a scoring here, with local paths."""
    result = client_call("score", "flood", post=sent_scene, out=tmp_path / "out", units="db")
    assert result.products == {name: str(tmp_path / "out" / file) for name, file in PRODUCTS.items()}
    assert {name: (tmp_path / "out" / name).read_bytes() for name in names(tmp_path / "out")} == CONTENT
    assert result.provenance.inputs[0].href == str(sent_scene)
    sent = written_service.requests[0]
    assert (sent.method, str(sent.url)) == ("POST", f"{URL}/v1/flood")
    assert sent.headers["authorization"] == "Bearer secret"
    assert sent.content.count(b"scene" * 50_000) == 1
    assert b'name="units"\r\n\r\ndb\r\n' in sent.content
    assert b'name="post"; filename="scene.tif"' in sent.content


def test_class_raster_is_fetched_last(client_call, written_service, sent_scene, tmp_path):
    """The raster that marks completion is asked for after every other product."""
    client_call("score", "flood", post=sent_scene, out=tmp_path / "out")
    asked = [each.url.path.rpartition("/")[2] for each in written_service.requests[1:]]
    assert asked == ["scene_item.json", "scene_class.tif"]


def test_large_scene_is_waited_for(client_call, written_service, sent_scene, tmp_path, client_pauses):
    """A scene that becomes a job is looked at as the service says, until it is done, and then fetched."""
    written_service.script = [httpx.Response(202, json=written_service.job("queued"))]
    written_service.states = ["queued", "running", "done"]
    seen = []
    result = client_call("score", "flood", post=sent_scene, out=tmp_path / "out", on_progress=seen.append)
    assert result.products.keys() == PRODUCTS.keys()
    assert client_pauses == [3, 3]
    assert [each.job.state for each in seen if each.stage == "score"] == ["queued", "running", "done"]
    upload = [each.done for each in seen if each.stage == "upload"]
    assert upload == sorted(upload)
    assert upload[-1] == sent_scene.stat().st_size
    last = [each for each in seen if each.stage == "download"][-1]
    assert (last.done, last.total) == (len(CONTENT["scene_class.tif"]),) * 2


def test_lost_download_goes_on(client_call, written_service, sent_scene, tmp_path):
    """A download that is cut goes on from its last byte, guarded by the ETag; the file is whole."""
    body, etag = CONTENT["scene_class.tif"], '"scene_class.tif"'
    cut = httpx.Response(200, stream=Cut(body[:1000]), headers={"ETag": etag})
    written_service.script = [None, None, cut]
    client_call("score", "flood", post=sent_scene, out=tmp_path / "out")
    assert (tmp_path / "out/scene_class.tif").read_bytes() == body
    assert written_service.requests[-1].headers["range"] == "bytes=1000-"
    assert written_service.requests[-1].headers["if-range"] == etag


def test_download_of_another_file_begins_anew(client_call, written_service, sent_scene, tmp_path):
    """When the service no longer has what was begun, the whole of the new file is taken."""
    cut = httpx.Response(200, stream=Cut(b"x" * 1000), headers={"ETag": '"older"'})
    written_service.script = [None, None, cut]
    client_call("score", "flood", post=sent_scene, out=tmp_path / "out")
    assert (tmp_path / "out/scene_class.tif").read_bytes() == CONTENT["scene_class.tif"]


def test_lost_request_is_repeated_as_the_same_job(client_call, written_service, sent_scene, tmp_path, client_pauses):
    """A scoring whose connection failed, or that found the queue full, is sent again under one Idempotency-Key."""
    written_service.script = [httpx.ConnectError("refused"), problem("queue_full", 429, **{"Retry-After": "7"})]
    client_call("score", "flood", post=sent_scene, out=tmp_path / "out")
    assert len({each.headers["idempotency-key"] for each in written_service.requests[:3]}) == 1
    assert client_pauses == [0.5, 7]
    assert written_service.requests[2].content.count(b"scene" * 50_000) == 1


def test_patience_ends(client_call, written_service, sent_scene, tmp_path, client_pauses):
    """A service that stays away ends as runtime_unavailable, one that stays busy as what it says."""
    written_service.script = [httpx.ConnectError("refused")] * 100
    with pytest.raises(RuntimeUnavailableError, match="refused"):
        client_call("score", "flood", post=sent_scene, out=tmp_path / "out")
    assert sum(client_pauses) <= 60
    written_service.script = [problem("queue_full", 429, **{"Retry-After": "50"})] * 9
    with pytest.raises(QueueFullError):
        client_call("jobs")
    assert names(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (problem("wrong_units", 422), WrongUnitsError),
        (problem("unauthorized", 401), UnauthorizedError),
        (problem("forbidden_reference", 403), ForbiddenReferenceError),
        (problem("internal", 500), InternalError),
        (problem("of_another_version", 418), InternalError),
        (httpx.Response(502, text="<html>"), RuntimeUnavailableError),
        (httpx.Response(308, headers={"Location": "https://elsewhere.example.org/"}), RuntimeUnavailableError),
        (httpx.Response(200, json={"hazard": "fire"}), InternalError),
        (httpx.Response(200, json=[]), InternalError),
    ],
)
def test_problems_are_errors_of_the_same_code(
    answer, error, client_call, written_service, sent_scene, tmp_path, client_pauses
):
    """What the service answers is the error of its code; nothing is repeated and no link is followed elsewhere."""
    written_service.script = [httpx.Response(answer.status_code, content=answer.content, headers=answer.headers)]
    with pytest.raises(error):
        client_call("score", "flood", post=sent_scene, out=tmp_path / "out")
    assert len(written_service.requests) == 1
    assert client_pauses == []


def test_internal_error_names_its_request(client_call, written_service, sent_scene, tmp_path):
    """The id of the request that failed is told, so that the operator finds it."""
    written_service.script = [problem("internal", 500)]
    with pytest.raises(InternalError, match="r-1"):
        client_call("plan", "flood", post=sent_scene)


def test_failed_job_raises_its_error(client_call, written_service, sent_scene, tmp_path):
    """A job that failed raises the error of its code, with its three sentences; a cancelled one is an interruption."""
    for state, error in (("failed", WrongUnitsError), ("cancelled", InterruptedScoringError)):
        written_service.script, written_service.states = (
            [httpx.Response(202, json=written_service.job("queued"))],
            [state],
        )
        with pytest.raises(error):
            client_call("score", "flood", post=sent_scene, out=tmp_path / "out")
    assert names(tmp_path / "out") == []


def test_interrupt_cancels_the_job(client_call, written_service, sent_scene, tmp_path):
    """What a progress function raises while a job runs cancels the job and leaves no product."""

    def stop(progress):
        if progress.stage == "score":
            raise ZeroDivisionError

    written_service.script, written_service.states = (
        [httpx.Response(202, json=written_service.job("queued"))],
        ["running"],
    )
    with pytest.raises(ZeroDivisionError):
        client_call("score", "flood", post=sent_scene, out=tmp_path / "out", on_progress=stop)
    assert (written_service.requests[-1].method, written_service.requests[-1].url.path) == (
        "DELETE",
        f"/ops/v1/jobs/{JOB}",
    )
    assert names(tmp_path / "out") == []


def test_cancelled_task_cancels_the_job(written_service, sent_scene, tmp_path):
    """Cancelling the task of an asynchronous scoring cancels its job."""
    written_service.script, written_service.states = (
        [httpx.Response(202, json=written_service.job("queued"))],
        ["running"] * 9,
    )

    async def run():
        async with tocsin.AsyncClient(URL, transport=httpx.MockTransport(written_service.later)) as client:
            waiting = asyncio.Event()
            scoring = client.score("flood", post=sent_scene, out=tmp_path / "out", on_progress=lambda _: waiting.set())
            task = asyncio.create_task(scoring)
            await waiting.wait()
            await asyncio.sleep(0.05)
            task.cancel()
            await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run())
    assert written_service.requests[-1].method == "DELETE"


def test_failed_download_leaves_nothing(client_call, written_service, sent_scene, tmp_path):
    """When one product cannot be fetched, none appears."""
    written_service.script = [None, None, problem("not_found", 404)]
    with pytest.raises(LookupError):
        client_call("score", "flood", post=sent_scene, out=tmp_path / "out")
    assert names(tmp_path / "out") == []


def test_existing_products_are_refused_before_anything_is_sent(client_call, written_service, sent_scene, tmp_path):
    """A folder that holds a product of this scene is refused at once, unless overwriting was asked for."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out/scene_class.tif").write_bytes(b"older")
    with pytest.raises(ProductExistsError):
        client_call("score", "flood", post=sent_scene, out=tmp_path / "out")
    assert written_service.requests == []
    client_call("score", "flood", post=sent_scene, out=tmp_path / "out", overwrite=True)
    assert (tmp_path / "out/scene_class.tif").read_bytes() == CONTENT["scene_class.tif"]
