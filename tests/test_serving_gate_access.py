import anyio
import httpx
import pytest
from gate_stand_ins import run, settings
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from serving.border import Border, refused
from serving.gate.access import JSON_BYTES, SAFE_HEADERS, Access, SafeHeaders
from serving.gate.rates import MOST_BEARERS, Rates
from serving.gate.tokens import TokenStore
from tocsin.errors import TocsinError

CLEAR = "clear-token-of-the-environment"
BEARER = {"Authorization": f"Bearer {CLEAR}"}


async def _show(request):
    """Say who asks and how much came."""
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
    state = request.scope.get("state", {})
    return PlainTextResponse(f"{state.get('token_name')} {state.get('token_jobs')} {size}")


async def _own(_request):
    """Answer with a header of its own."""
    return Response(headers={"Cache-Control": "private, max-age=60"})


async def _defect(_request):
    """Fail."""
    message = f"at /srv/tocsin with {CLEAR}"
    raise RuntimeError(message)


def app(configured, **parts):
    """Return an application behind the gate."""
    paths = ("/v1/jobs", "/livez", "/readyz", "/metrics")
    return Starlette(
        routes=[
            *(Route(path, _show, methods=["GET", "POST"]) for path in paths),
            Route("/own", _own),
            Route("/defect", _defect),
        ],
        middleware=[Middleware(SafeHeaders), Middleware(Border), Middleware(Access, settings=configured, **parts)],
        exception_handlers={TocsinError: refused},
    )


def ask(application, path="/v1/jobs", *, client="127.0.0.1", host="127.0.0.1:3000", method="GET", **named):
    """Ask once and return the answer."""
    headers = {"Host": host} | named.pop("headers", {})

    async def send():
        transport = httpx.ASGITransport(application, client=(client, 5000), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as session:
            return await session.request(method, path, headers=headers, **named)

    return run(send)


def assert_problem(answer, status, code):
    """Check that an answer is a problem with its headers, and says nothing that it should not."""
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == code
    assert answer.json()["request_id"]
    assert "Traceback" not in answer.text
    assert CLEAR not in answer.text
    assert {name: answer.headers[name] for name in SAFE_HEADERS} == dict(SAFE_HEADERS)


@pytest.fixture
def guarded(tmp_path):
    """Return an application that knows one token."""
    return app(settings(tmp_path, tokens=(CLEAR,), token_jobs=7))


def test_bearer_of_a_token_is_let_in(guarded):
    """The name of the token and its quota of jobs are left for the routes."""
    answer = ask(guarded, client="203.0.113.7", host="tocsin.example.org", headers=BEARER)
    assert answer.status_code == 200
    assert answer.text.startswith("env-")
    assert answer.text.endswith(" 7 0")


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        f"Basic {CLEAR}",
        CLEAR,
        f"Bearer {CLEAR}x",
        f"Bearer {CLEAR[:-1]}",
    ],
)
def test_everybody_else_is_refused(guarded, value):
    """Without a known token the answer is 401, says how to ask, and comes before anything is read."""
    answer = ask(guarded, headers={} if value is None else {"Authorization": value}, method="POST", content=b"x" * 100)
    assert_problem(answer, 401, "unauthorized")
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_token_in_the_address_does_not_count(guarded):
    """Addresses stand in logs: a token is taken from the header only."""
    assert ask(guarded, f"/v1/jobs?token={CLEAR}&access_token={CLEAR}").status_code == 401


def test_probes_need_no_token(guarded, tmp_path):
    """Liveness and readiness are for everybody, metrics only when allowed; no other path is."""
    assert ask(guarded, "/livez").status_code == ask(guarded, "/readyz").status_code == 200
    assert ask(guarded, "/metrics").status_code == 401
    assert ask(guarded, "/metrics", headers=BEARER).status_code == 200
    assert ask(guarded, "/livez/../v1/jobs").status_code == 401
    open_metrics = app(settings(tmp_path, tokens=(CLEAR,), metrics_open=True))
    assert ask(open_metrics, "/metrics").status_code == 200
    assert ask(open_metrics).status_code == 401


@pytest.mark.parametrize(
    ("named", "status"),
    [
        ({}, 200),
        ({"client": "::1", "host": "[::1]:3000"}, 200),
        ({"host": "localhost:3000"}, 200),
        ({"headers": {"Origin": "http://localhost:3000"}}, 200),
        ({"client": "203.0.113.7"}, 401),
        ({"client": "10.0.0.1"}, 401),
        ({"host": "tocsin.example.org"}, 401),
        ({"host": "localhost.evil.org"}, 401),
        ({"host": ""}, 401),
        ({"headers": {"X-Forwarded-For": "203.0.113.7"}}, 401),
        ({"headers": {"Forwarded": "for=203.0.113.7"}}, 401),
        ({"headers": {"Origin": "https://evil.example.org"}}, 401),
        ({"headers": {"Origin": "null"}}, 401),
        ({"headers": {"Sec-Fetch-Site": "cross-site"}}, 401),
    ],
)
def test_without_tokens_only_this_machine_is_served(tmp_path, named, status):
    """Not another address, not through a proxy, and not from a page that a browser shows."""
    answer = ask(app(settings(tmp_path)), **named)
    assert answer.status_code == status
    if status == 200:
        assert answer.text == "local 20 0"


def test_revoked_token_is_refused(tmp_path):
    """A token of the command works with its own quotas, its use is written down, and revoked it no longer works."""
    store = TokenStore(tmp_path / "state")
    clear, _ = store.new("ops-room", jobs=2)
    bearer = {"Authorization": f"Bearer {clear}"}
    assert ask(app(settings(tmp_path)), headers=bearer).text == "ops-room 2 0"
    assert store.all()[0].last_used is not None
    store.revoke("ops-room")
    store.new("other")
    assert ask(app(settings(tmp_path)), headers=bearer).status_code == 401


def test_use_that_cannot_be_written_keeps_nobody_out(tmp_path, monkeypatch):
    """A disk that is full or read-only is no reason to refuse a request."""
    store = TokenStore(tmp_path / "state")
    clear, _ = store.new("ops-room")

    def fail(*_):
        raise OSError(28, "full")

    monkeypatch.setattr(TokenStore, "used", fail)
    assert ask(app(settings(tmp_path)), headers={"Authorization": f"Bearer {clear}"}).status_code == 200


def test_too_many_requests_are_told_to_wait(tmp_path):
    """A token that asks too often gets 429 and the seconds to wait; another one is not held up, nor are probes."""
    clock = iter(range(1000))
    slow = Rates(lambda: next(clock) * 0.001)
    guarded = app(settings(tmp_path, tokens=(CLEAR, "other"), token_requests_per_minute=3), rates=slow)
    assert [ask(guarded, headers=BEARER).status_code for _ in range(4)] == [200, 200, 200, 429]
    answer = ask(guarded, headers=BEARER)
    assert_problem(answer, 429, "quota_exceeded")
    assert 15 <= int(answer.headers["retry-after"]) <= 20
    assert ask(guarded, headers={"Authorization": "Bearer other"}).status_code == 200
    assert ask(guarded, "/livez", headers=BEARER).status_code == 200


def test_buckets_fill_with_time_and_are_forgotten():
    """A bearer who waited as told may go on; buckets of many bearers do not pile up."""
    now = [0.0]
    rates = Rates(lambda: now[0])
    assert [rates.take("a", 2) for _ in range(2)] == [0, 0]
    wait_s = rates.take("a", 2)
    assert wait_s == pytest.approx(30)
    now[0] += wait_s
    assert rates.take("a", 2) == 0
    assert rates.take("a", 2) > 0
    for number in range(MOST_BEARERS):
        rates.take(str(number), 2)
    now[0] += 61
    rates.take("b", 2)
    assert len(rates._spent) == 1


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "multipart/form-data; boundary=x"])
def test_bodies_over_the_limit_are_refused_before_they_are_read(tmp_path, kind):
    """An announced length over the limit is 413 without a byte read; a form may be longer than another body."""
    guarded = app(settings(tmp_path, tokens=(CLEAR,), max_body_bytes=2 * JSON_BYTES))
    limit = 2 * JSON_BYTES if kind.startswith("multipart") else JSON_BYTES
    read = []

    async def send(length, body):
        sent = []
        headers = [(b"authorization", BEARER["Authorization"].encode()), (b"content-type", kind.encode())]
        headers += [(b"content-length", str(length).encode())] if length is not None else []
        scope = {"type": "http", "method": "POST", "path": "/v1/jobs", "query_string": b"", "headers": headers}
        blocks = iter(body)

        async def receive():
            block = next(blocks)
            read.append(len(block))
            return {"type": "http.request", "body": block, "more_body": True}

        async def tell(message):
            sent.append(message)

        with anyio.fail_after(10):
            await guarded(scope | {"client": ("203.0.113.7", 1), "root_path": "", "scheme": "http"}, receive, tell)
        return sent[0]["status"]

    assert run(send, limit + 1, iter(list, None)) == 413
    assert read == []
    assert run(send, None, iter(lambda: bytes(1 << 16), None)) == 413
    assert limit < sum(read) <= limit + (1 << 16)


def test_answers_have_safe_headers(guarded):
    """Every answer says how it may be used, unless the route says so itself."""
    answer = ask(guarded, headers=BEARER)
    assert {name: answer.headers[name] for name in SAFE_HEADERS} == dict(SAFE_HEADERS)
    assert ask(guarded, "/own", headers=BEARER).headers["cache-control"] == "private, max-age=60"


def test_defects_say_nothing(guarded):
    """An exception that nobody expected is a problem without its text."""
    answer = ask(guarded, "/defect", headers=BEARER)
    assert_problem(answer, 500, "internal")
    assert "/srv" not in answer.text


def test_refusals_log_no_token(guarded, caplog):
    """No log line holds what a client sent as its token."""
    with caplog.at_level("DEBUG"):
        ask(guarded, headers={"Authorization": "Bearer wrong-secret"})
        ask(guarded, headers=BEARER)
    assert "wrong-secret" not in caplog.text
    assert CLEAR not in caplog.text


def test_sockets_are_closed(guarded):
    """There is no route for a WebSocket, and none is let in."""
    sent = []

    async def connect():
        async def tell(message):
            sent.append(message)

        await guarded({"type": "websocket", "path": "/", "headers": []}, None, tell)

    run(connect)
    assert sent == [{"type": "websocket.close", "code": 1008}]
