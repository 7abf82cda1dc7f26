"""The API end to end, over real jobs and real workers: what it answers, and what it refuses."""

import io
import json
import time
from contextlib import nullcontext
from uuid import UUID

import numpy as np
import pytest

pytest.importorskip("bentoml", reason="needs the extra serve")

import rasterio
from service_stand_ins import CHIP, ENDS_WITHIN_S, opened, settings_of

from serving.problems import MEDIA_TYPE, Problem
from tocsin.result import FloodSummary, Result, ScoringPlan


def form(content, name="scene.tif", field="post"):
    """Return a form with one file."""
    return [(field, (name, content, "image/tiff"))]


def is_problem(got, status, code):
    """Assert that an answer is a problem of this code, with nothing of the server's inside."""
    assert (got.status_code, got.headers["content-type"]) == (status, MEDIA_TYPE), got.text
    found = Problem.model_validate_json(got.content)
    assert (found.code, found.status) == (code, status)
    assert found.request_id == got.headers["x-request-id"] == str(UUID(found.request_id))
    for secret in ("Traceback", "site-packages", "/state", "/tmp"):  # noqa: S108 - what must not be said
        assert secret not in got.text
    return found


def ended(service, href):
    """Return a job once it has ended."""
    until = time.monotonic() + ENDS_WITHIN_S
    while (job := service.get(href).json())["state"] in {"queued", "running"}:
        assert time.monotonic() < until, job
        time.sleep(0.05)
    return job


@pytest.fixture(scope="module")
def scored(service, chip_bytes):
    """Return the answer to a chip."""
    return service.post("/v1/flood", files=form(chip_bytes))


@pytest.fixture(scope="module")
def idle(tmp_path_factory, small_models):
    """Return a client, from elsewhere, of a service that knows five tokens, has three places and scores nothing."""
    settings = settings_of(
        tmp_path_factory.mktemp("idle_state"),
        small_models,
        tokens=tuple("abcde"),
        token_jobs=1,
        queue_length=3,
        direct_megapixels=0.001,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("serving.app.Supervisor", nullcontext)
        with opened(settings, client=("203.0.113.9", 4711)) as client:
            yield client


def bearer(token):
    """Return the header of a token."""
    return {"Authorization": f"Bearer {token}"}


def test_a_chip_is_answered_with_its_result(scored):
    """A small scene gets 200 with the JSON of the contract, its inputs by the name that the client gave."""
    assert scored.status_code == 200
    result = Result.model_validate_json(scored.content)
    assert (result.hazard, result.status, result.scene.id, result.scene.shape) == ("flood", "ok", "scene", (CHIP, CHIP))
    assert isinstance(result.summary, FloodSummary)
    assert result.summary.water_km2 == pytest.approx((CHIP * CHIP // 2 - 64) * 1e-4, rel=0.01)
    assert [each.href for each in result.provenance.inputs] == ["scene.tif"]


def test_products_are_links_to_what_was_scored(service, scored):
    """Every product of the result can be downloaded, and the class raster holds the answer of the graph."""
    products = scored.json()["products"]
    assert set(products) == {"class", "probability", "polygons", "quicklook", "item"}
    for href in products.values():
        assert service.head(href).status_code == 200
    with rasterio.open(io.BytesIO(service.get(products["class"]).content)) as raster:
        classes = raster.read(1)
    assert (classes[:8, :8] == 255).all()
    assert (classes[8:, : CHIP // 2] == 1).all()
    assert (classes[:, CHIP // 2 :] == 0).all()


def test_nothing_of_the_server_is_in_answers_or_products(service, scored):
    """Neither the result nor a product names a folder of the server."""
    texts = [scored.content] + [service.get(href).content for href in scored.json()["products"].values()]
    assert [text for text in texts if b"/jobs/" in text.replace(b"/v1/jobs/", b"")] == []


def test_the_job_behind_a_result_can_be_asked_for(service, scored):
    """What was answered at once is a job like any other."""
    job = service.get(scored.headers["location"]).json()
    assert (job["id"], job["state"], job["progress"]) == (scored.headers["x-job-id"], "done", 1.0)
    assert job["result"] == scored.json()
    assert job["id"] in {each["id"] for each in service.get("/v1/jobs").json()["jobs"]}
    assert len(service.get("/v1/jobs?limit=1").json()["jobs"]) == 1


def test_who_prefers_a_job_gets_one(service, chip_bytes):
    """With Prefer: respond-async a small scene is a job too, whose result is the same."""
    got = service.post("/v1/flood", files=form(chip_bytes), headers={"Prefer": "respond-async"})
    assert (got.status_code, got.headers["location"]) == (202, got.json()["href"])
    assert int(got.headers["retry-after"]) >= 1
    job = ended(service, got.json()["href"])
    assert (job["state"], job["result"]["summary"]["polygons"]) == ("done", 1)


def test_a_plan_says_what_it_would_cost(service, chip_bytes):
    """A plan has no product, leaves no job, and says windows, memory and bytes."""
    before = len(service.get("/v1/jobs?limit=999").json()["jobs"])
    got = service.post("/v1/flood:plan", files=form(chip_bytes))
    result = Result.model_validate_json(got.content)
    assert isinstance(result.summary, ScoringPlan)
    assert (got.status_code, result.products, result.summary.windows) == (200, {}, 1)
    assert len(service.get("/v1/jobs?limit=999").json()["jobs"]) == before


def test_landslides_and_volcanoes_are_scored_too(service, chip_bytes):
    """Every hazard answers under its own name, with files of its own names."""
    both = [("pre", ("pre.tif", chip_bytes)), ("post", ("post.tif", chip_bytes))]
    slides = service.post("/v1/landslide", files=both)
    assert (slides.status_code, slides.json()["hazard"]) == (200, "landslide"), slides.text
    phase = np.linspace(-3, 3, 64 * 64, dtype=np.float32).reshape(1, 64, 64)
    with rasterio.MemoryFile() as memory:
        profile = {"driver": "GTiff", "width": 64, "height": 64, "count": 1, "dtype": "float32", "crs": "EPSG:32630"}
        with memory.open(**profile, transform=rasterio.Affine(100, 0, 5e5, 0, -100, 4.4e6)) as raster:
            raster.write(phase)
        deforming = service.post("/v1/volcano", files=form(memory.read(), field="interferogram"))
    assert (deforming.status_code, deforming.json()["hazard"]) == (200, "volcano"), deforming.text


def test_the_same_key_is_the_same_job(service, chip_bytes):
    """A request sent twice under one Idempotency-Key is scored once; another request under it is refused."""
    key = {"Idempotency-Key": "key-1"}
    first = service.post("/v1/flood", files=form(chip_bytes), headers=key)
    again = service.post("/v1/flood", files=form(chip_bytes), headers=key)
    assert (again.status_code, again.headers["x-job-id"]) == (200, first.headers["x-job-id"])
    other = service.post("/v1/flood", files=form(chip_bytes), data={"threshold": "0.9"}, headers=key)
    is_problem(other, 400, "usage")


def test_options_of_a_request_count(service, chip_bytes):
    """A threshold sent beside the file is the one that was used."""
    got = service.post("/v1/flood", files=form(chip_bytes), data={"threshold": "0.75"})
    assert got.json()["provenance"]["threshold"] == 0.75


def test_what_a_job_fails_with_is_the_answer(service, chip_bytes):
    """An overlap that the chip does not allow is refused with its own code."""
    is_problem(service.post("/v1/flood", files=form(chip_bytes), data={"overlap": "64"}), 400, "usage")


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [(b"hello" * 100, 415, "not_a_raster"), (b"<VRTDataset/>", 415, "not_a_raster"), (b"", 400, "truncated")],
)
def test_what_is_no_raster_is_refused(service, content, status, code):
    """Text, a VRT and nothing at all are refused before any work."""
    is_problem(service.post("/v1/flood", files=form(content)), status, code)


def test_half_a_raster_is_refused(service, chip_bytes):
    """A file whose header promises more than it holds is refused."""
    is_problem(service.post("/v1/flood", files=form(chip_bytes[: len(chip_bytes) // 2])), 400, "truncated")


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        (b"", "", "usage"),
        (b"post=x", "application/x-www-form-urlencoded", "usage"),
        (b"{", "application/json", "usage"),
        (b"[" * 100_000, "application/json", "usage"),
        (b"[]", "application/json", "usage"),
        (b'{"threshold": NaN}', "application/json", "usage"),
        (b"{}", "application/json", "usage"),
        (b"--x--\r\n", "multipart/form-data; boundary=x", "usage"),
    ],
)
def test_what_is_no_request_is_refused(service, body, kind, code):
    """A body of another kind, broken or empty is a usage error that says what to send."""
    is_problem(service.post("/v1/flood", content=body, headers={"Content-Type": kind}), 400, code)


@pytest.mark.parametrize(
    "asked", ["/etc/passwd", "http://169.254.169.254/latest", "file:/etc/passwd", "https://x.org/a.tif"]
)
def test_references_are_refused_unless_allowed(service, asked):
    """No path of the server and no address that nobody allowed is opened."""
    got = service.post("/v1/flood", content=json.dumps({"post": asked}), headers={"Content-Type": "application/json"})
    assert got.status_code in {400, 403}
    is_problem(got, got.status_code, got.json()["code"])


@pytest.mark.parametrize("limit", ["0", "-1", "1000", "x", "1e2", "٣"])
def test_a_list_has_bounds(service, limit):
    """A limit out of bounds is refused, not altered."""
    is_problem(service.get("/v1/jobs", params={"limit": limit}), 400, "usage")


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/fire", "/v1/jobs/x", "/v1/jobs/" + "0" * 33, "/v1/products/x/y.tif", "/docs.json", "/ui/"]
)
def test_what_is_not_there_is_a_problem(service, path):
    """Unknown paths, jobs and products are 404 as problems."""
    is_problem(service.get(path), 404, "not_found")


def test_another_method_is_a_problem(service):
    """405 names the methods that there are."""
    got = service.put("/v1/jobs/x")
    assert is_problem(got, 405, "method_not_allowed").expected == got.headers["allow"] == "DELETE, GET, HEAD"


def test_every_answer_has_safe_headers(service, scored):
    """Answers are not framed, sniffed or kept by proxies, refusals neither; products may be kept by the client."""
    for got in (scored, service.get("/v1/nowhere"), service.get("/livez")):
        assert (got.headers["x-content-type-options"], got.headers["cache-control"]) == ("nosniff", "no-store")
    assert service.get(scored.json()["products"]["item"]).headers["cache-control"].startswith("private")


def test_models_are_listed(service):
    """The list holds every model of the repository with its figures, and not where it lies."""
    got = service.get("/v1/models")
    assert [each["name"] for each in got.json()["models"]] == ["flood", "landslide", "volcano"]
    assert got.json()["models"][0]["metrics"][0]["baseline_value"] >= 0
    assert "manifest.json" not in got.text


def test_a_code_is_explained_where_its_type_leads(service):
    """The type of a problem is an address that says what its code means."""
    got = service.get(service.get("/v1/nowhere").json()["type"])
    assert (got.status_code, got.json()["code"], got.json()["status"]) == (200, "not_found", 404)
    is_problem(service.get("/v1/problems/nonsense"), 404, "not_found")


def test_probes_answer(service):
    """The process lives, every model judged a chip, and the figures can be read."""
    assert service.get("/livez").status_code == 200
    ready = service.get("/readyz")
    assert (ready.status_code, ready.json()["ready"]) == (200, True)
    assert "tocsin_requests_total" in service.get("/metrics").text


def test_a_defect_is_told_as_one(service, monkeypatch, caplog):
    """What nobody expected is 500 without a traceback for the client, and with one in the log."""

    def broken(*_):
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr("serving.job_routes.job_view", broken)
    got = service.get("/v1/jobs")
    assert "secret detail" not in got.text
    assert "secret detail" in caplog.text
    is_problem(got, 500, "internal")


def test_a_cancelled_job_stays_cancelled(service, chip_bytes):
    """DELETE ends what waits or runs, and leaves what has ended as it is."""
    job = service.post("/v1/flood", files=form(chip_bytes), headers={"Prefer": "respond-async"}).json()
    service.delete(job["href"])
    first = ended(service, job["href"])
    assert first["state"] in {"cancelled", "done"}
    assert service.delete(job["href"]).json() == first


def test_a_larger_scene_is_a_job_that_waits_in_its_place(idle, chip_bytes):
    """A scene above the limit of the settings gets 202; one token cannot take every place; DELETE frees it."""
    got = idle.post("/v1/flood", files=form(chip_bytes), headers=bearer("a"))
    assert (got.status_code, got.json()["state"], got.json()["queue_place"]) == (202, "queued", 1)
    is_problem(idle.post("/v1/flood", files=form(chip_bytes), headers=bearer("a")), 429, "quota_exceeded")
    assert idle.delete(got.json()["href"], headers=bearer("a")).json()["state"] == "cancelled"


def test_a_full_queue_says_when_to_come_back(idle, chip_bytes):
    """The fourth of three places is refused with Retry-After, and nothing of it is left."""
    answers = {each: idle.post("/v1/flood", files=form(chip_bytes), headers=bearer(each)) for each in "bcde"}
    refused = answers.pop("e")
    is_problem(refused, 429, "queue_full")
    assert int(refused.headers["retry-after"]) >= 1
    jobs = {path.name for path in (idle.app.state.service.settings.state / "jobs").iterdir()}
    assert {each.json()["id"] for each in answers.values()} <= jobs
    assert idle.get("/v1/jobs", headers=bearer("e")).json() == {"jobs": []}
    for token, answer in answers.items():
        idle.delete(answer.json()["href"], headers=bearer(token))


def test_a_token_sees_its_own_jobs_only(idle, chip_bytes):
    """With another token a job is not there."""
    href = idle.post("/v1/flood", files=form(chip_bytes), headers=bearer("a")).json()["href"]
    assert idle.get(href, headers=bearer("a")).status_code == 200
    is_problem(idle.get(href, headers=bearer("e")), 404, "not_found")
    is_problem(idle.delete(href, headers=bearer("e")), 404, "not_found")
    idle.delete(href, headers=bearer("a"))


@pytest.mark.parametrize("path", ["/v1/models", "/v1/openapi.json", "/metrics", "/v1/jobs", "/nowhere"])
def test_nothing_is_told_without_a_token(idle, path):
    """Without a token, or with a wrong one, nothing but the probes answers."""
    is_problem(idle.get(path), 401, "unauthorized")
    is_problem(idle.get(path, headers=bearer("wrong")), 401, "unauthorized")
    assert idle.get("/livez").status_code == 200


def test_an_upload_without_a_token_is_not_read(idle, chip_bytes):
    """Who may not ask sends a scene in vain."""
    is_problem(idle.post("/v1/flood", files=form(chip_bytes)), 401, "unauthorized")
