"""What is counted, logged and traced of every request, around the whole application."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from time import monotonic
from typing import Final
from uuid import UUID, uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.observability import logs
from serving.observability.metrics import Metrics
from serving.observability.tracing import Tracing

REQUEST_ID: Final = "x-request-id"
UNKNOWN_ROUTE: Final = "unknown"
CLIENT_LEFT: Final = 499
"""Counted where nothing was answered, as proxies count it."""
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
PROBES: Final = frozenset({"/livez", "/readyz", "/metrics"})
"""Asked every few seconds: logged only when they fail."""

logger = logging.getLogger("tocsin.service.access")


@dataclass(slots=True)
class _Exchange:
    """What went over the wire so far."""

    status: int = 0
    received: int = 0
    sent: int = 0


class Observe:
    """ASGI middleware: gives every request its id, and counts, logs and traces it. To be the outermost.

    The id is the client's X-Request-ID when that is a UUID, else a new one; it stands in ``scope["state"]``, in the
    answer and in every line that is logged meanwhile. What a handler leaves in ``scope["state"]`` is used: `error_code`
    (of the problem) and `token_name`.

    Parameters
    ----------
    app
        What answers.
    metrics
        Counts.
    tracing
        Traces.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, tracing: Tracing) -> None:
        self.app, self._metrics, self._tracing = app, metrics, tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; the application is told nothing of being watched."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        identity, exchange, started = _identity(Headers(scope=scope)), _Exchange(), monotonic()
        scope.setdefault("state", {})["request_id"] = identity
        token = logs.request_id.set(identity)
        self._metrics.in_progress.inc()
        try:
            with self._tracing.span(f"{_method(scope)} request", dict(Headers(scope=scope))) as span:
                await self.app(scope, _counting(receive, exchange), _answering(send, exchange, identity))
                span.update_name(f"{_method(scope)} {route_of(scope)}")
                span.set_attribute("http.route", route_of(scope))
                span.set_attribute("http.response.status_code", exchange.status)
                span.set_attribute("tocsin.request_id", identity)
        except BaseException:
            exchange.status = exchange.status or HTTPStatus.INTERNAL_SERVER_ERROR
            raise
        finally:
            self._metrics.in_progress.dec()
            self._tell(scope, exchange, monotonic() - started)
            logs.request_id.reset(token)

    def _tell(self, scope: Scope, exchange: _Exchange, seconds: float) -> None:
        """Count the request, and write its line."""
        route, method, state = route_of(scope), _method(scope), scope["state"]
        status, code = exchange.status or CLIENT_LEFT, state.get("error_code", "")
        self._metrics.requests.labels(route, method, str(int(status)), code).inc()
        self._metrics.request_seconds.labels(route, method).observe(seconds)
        self._metrics.received_bytes.inc(exchange.received)
        failed = status >= HTTPStatus.INTERNAL_SERVER_ERROR
        if scope["path"] in PROBES and not failed:
            return
        facts = {
            "method": method,
            "route": route,
            "path": scope["path"],
            "status": status,
            "seconds": round(seconds, 4),
        }
        facts |= {"received_bytes": exchange.received, "sent_bytes": exchange.sent, "client": _client(scope)}
        facts |= {name: state[name] for name in ("token_name", "error_code") if state.get(name)}
        logger.log(logging.WARNING if failed else logging.INFO, "request", extra=facts)


def route_of(scope: Scope) -> str:
    """Return the template of the route that answered, never a path: a client cannot make new names."""
    return str(getattr(scope.get("route"), "path", None) or UNKNOWN_ROUTE)


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in METHODS else "OTHER"


def _client(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""


def _identity(headers: Headers) -> str:
    try:
        return str(UUID(headers.get(REQUEST_ID, "")))
    except ValueError:
        return str(uuid4())


def _counting(receive: Receive, exchange: _Exchange) -> Callable[[], Awaitable[Message]]:
    async def counted() -> Message:
        message = await receive()
        exchange.received += len(message.get("body", b""))
        return message

    return counted


def _answering(send: Send, exchange: _Exchange, identity: str) -> Callable[[Message], Awaitable[None]]:
    async def answered(message: Message) -> None:
        if message["type"] == "http.response.start":
            exchange.status = message["status"]
            MutableHeaders(scope=message)[REQUEST_ID] = identity
        exchange.sent += len(message.get("body", b""))
        await send(message)

    return answered
