"""Errors become RFC 9457 problems that hold no folder of the server."""

import json

import pytest

from tocsin.errors import QueueFullError, UnauthorizedError, UsageError

problems = pytest.importorskip("serving.problems", reason="needs the extra serve")


@pytest.mark.parametrize("kind", problems.ERRORS.values())
def test_a_problem_says_what_the_error_says(kind):
    """Status, code and the three sentences are those of the error, under the media type of RFC 9457."""
    response = problems.problem(kind("one band", "two bands", "give both"), "id-1")
    body = json.loads(response.body)
    assert (response.status_code, response.media_type) == (kind.http_status, "application/problem+json")
    assert body["code"] == kind.code
    assert (body["given"], body["expected"], body["todo"]) == ("one band", "two bands", "give both")
    assert (body["status"], body["instance"], body["request_id"]) == (kind.http_status, "urn:uuid:id-1", "id-1")
    problems.Problem.model_validate(body)


def test_who_has_to_wait_is_told_how_long():
    """A full queue always carries Retry-After, and a better known time wins; a 401 says how to authenticate."""
    full = QueueFullError("100 jobs", "fewer", "wait")
    assert int(problems.problem(full, "id").headers["retry-after"]) > 0
    assert problems.problem(full, "id", headers={"Retry-After": "77"}).headers["retry-after"] == "77"
    asked = problems.problem(UnauthorizedError("no token", "a token", "give one"), "id")
    assert asked.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("/var/lib/tocsin/jobs/7/in/scene.tif of 3 bytes", "scene.tif of 3 bytes"),
        ("'/a/b/VV.tif;/a/b/VH.tif'", "'VV.tif;VH.tif'"),
        ("in/post-0/VV.tif;in/post-1/VH.tif", "VV.tif;VH.tif"),
        ("main/post-0/a.tif", "main/post-0/a.tif"),
        ("https://example.org/a/b.tif", "https://example.org/a/b.tif"),
        ("read /v1/openapi.json", "read /v1/openapi.json"),
        ("3 km/h and 1/2", "3 km/h and 1/2"),
    ],
)
def test_folders_of_the_server_stay_at_the_server(said, told):
    """An absolute path is told by its file name; addresses and routes stay as they are."""
    body = json.loads(problems.problem(UsageError(said, "x", "y"), "id").body)
    assert body["given"] == told
    assert told in body["detail"]


def test_every_layer_sees_one_request_id():
    """The id of a request is made once, whoever asks first."""
    scope = {"type": "http"}
    assert problems.request_id(scope) == problems.request_id(scope)
    assert problems.request_id({"type": "http"}) != problems.request_id(scope)
