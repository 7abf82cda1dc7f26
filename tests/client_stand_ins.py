"""A service whose answers are written down, and both faces of a client that talk to it."""

import asyncio

import httpx
import pytest
from stand_ins import make_result

import tocsin
from tocsin import client as faces

JOB = "019aa1b2c3d4-5f0e1d2c3b4a59687766"
PRODUCTS = {"class": "scene_class.tif", "item": "scene_item.json"}
CONTENT = {"scene_class.tif": bytes(range(256)) * 2000, "scene_item.json": b"{}"}
URL = "https://tocsin.example.org/ops"


class Cut(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body whose connection ends after some bytes."""

    def __init__(self, body):
        self.body = body

    def __iter__(self):
        yield self.body
        raise httpx.ReadError("connection reset")

    async def __aiter__(self):
        yield self.body
        raise httpx.ReadError("connection reset")


class StandIn:
    """A service: answers by path, after what was written down for the next calls; keeps every request."""

    def __init__(self):
        self.links = {name: f"/v1/products/{JOB}/{file}" for name, file in PRODUCTS.items()}
        self.states = ["done"]
        self.script = []
        self.requests = []
        self.content = dict(CONTENT)

    def __call__(self, request):
        """Answer."""
        request.read()
        return self.answer(request)

    async def later(self, request):
        """Answer an asynchronous client."""
        await request.aread()
        return self.answer(request)

    def answer(self, request):
        """Answer a request whose body was read."""
        self.requests.append(request)
        if self.script:
            said = self.script.pop(0)
            if isinstance(said, Exception):
                raise said
            if said is not None:
                return said
        path = request.url.path.removeprefix("/ops/v1")
        if path.startswith("/products/"):
            return self.product(request, path.rpartition("/")[2])
        if path.startswith("/jobs/"):
            state = "cancelled" if request.method == "DELETE" else self.states.pop(0)
            return httpx.Response(200, json=self.job(state), headers={"Retry-After": "3"})
        if path in {"/jobs", "/models"}:
            return httpx.Response(200, json={"jobs": [self.job("done")]} if path == "/jobs" else {"models": []})
        if "prefer" in request.headers:
            return httpx.Response(202, json=self.job("queued"))
        return httpx.Response(200, json=self.result(), headers={"X-Job-ID": JOB})

    def result(self):
        """Return the result in JSON, products as links."""
        return make_result(products=self.links).model_dump(mode="json")

    def job(self, state):
        """Return a job in JSON."""
        error = {"code": "wrong_units", "given": "linear power", "expected": "dB", "todo": "say units=linear"}
        return {
            "id": JOB,
            "href": f"/v1/jobs/{JOB}",
            "hazard": "flood",
            "state": state,
            "progress": 1.0 if state == "done" else 0.25,
            "queue_place": None,
            "eta_s": None,
            "created": "2026-01-01T00:00:00Z",
            "started": None,
            "ended": None,
            "error": error if state == "failed" else None,
            "result": self.result() if state == "done" else None,
        }

    def product(self, request, name):
        """Return a file, or the part of it that was asked for."""
        body, headers = self.content[name], {"ETag": f'"{name}"'}
        start = int(request.headers.get("range", "bytes=0-")[6:-1])
        if start and request.headers["if-range"] == headers["ETag"]:
            return httpx.Response(206, content=body[start:], headers=headers)
        return httpx.Response(200, content=body, headers=headers)


def problem(code, status, **headers):
    """Return a problem of the service."""
    body = {"code": code, "given": "this", "expected": "that", "todo": "do so", "request_id": "r-1"}
    return httpx.Response(status, json=body, headers=headers)


@pytest.fixture
def written_service():
    """Return a service."""
    return StandIn()


@pytest.fixture
def client_pauses(monkeypatch):
    """Return the seconds that the client paused, which pass at once."""
    seconds, soon = [], asyncio.sleep

    async def sleep(wanted):
        seconds.append(wanted)
        await soon(0)

    monkeypatch.setattr(faces.time, "sleep", seconds.append)
    monkeypatch.setattr(faces.asyncio, "sleep", sleep)
    return seconds


@pytest.fixture(params=["sync", "async"])
def client_call(request, written_service, client_pauses):
    """Return what calls a method of a client, of each face."""

    def run(method, *given, **named):
        if request.param == "sync":
            with tocsin.Client(URL, "secret", transport=httpx.MockTransport(written_service)) as client:
                return getattr(client, method)(*given, **named)

        async def later():
            transport = httpx.MockTransport(written_service.later)
            async with tocsin.AsyncClient(URL, "secret", transport=transport) as client:
                return await getattr(client, method)(*given, **named)

        return asyncio.run(later())

    return run


@pytest.fixture
def sent_scene(tmp_path):
    """Return a file to send: its content is the service's business."""
    path = tmp_path / "scene.tif"
    path.write_bytes(b"scene" * 50_000)
    return path


def names(folder):
    """Return the names of everything in a folder."""
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []
