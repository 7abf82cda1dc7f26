"""Who may ask, how often and how much: ASGI middleware before every route.

With tokens, every path but the probes asks for one. Without any, only programs of this machine are let in: the address
must be a loopback one, nothing may have forwarded the request, and a browser must not have been sent here by a page
from elsewhere (the name asked for must be this machine's, and Origin, if there is one, too).
"""

import ipaddress
import logging
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from anyio import to_thread
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.gate.rates import Rates, TooOftenError
from serving.gate.tokens import KnownTokens, Token
from serving.gate.uploads import too_many_bytes
from serving.settings import ServiceSettings
from tocsin.errors import TocsinError, UnauthorizedError

PROBES: Final = frozenset({"/livez", "/readyz"})
"""Paths that need no token."""
METRICS: Final = "/metrics"
LOCAL: Final = "local"
"""Who asks where no token is known: a program of this machine."""
JSON_BYTES: Final = 1 << 20
"""Most bytes of a body that is no form: references and options."""
FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")

SAFE_HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Headers of every answer that does not set them itself."""

logger = logging.getLogger("tocsin.service")


class SafeHeaders:
    """ASGI middleware that adds `SAFE_HEADERS` to every answer; the outermost, so that refusals have them too.

    Parameters
    ----------
    app
        What answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def safe(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SAFE_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, safe)


class Access:
    """ASGI middleware that lets requests in, or raises why not; who asks is left in the scope's state.

    ``state["token_name"]`` is the name of the token, ``state["token_jobs"]`` how many jobs it may have at a time.

    Parameters
    ----------
    app
        What is guarded.
    settings
        Of the service.
    tokens, rates
        Who is known, and how often each asked; made here by default.
    """

    def __init__(
        self, app: ASGIApp, settings: ServiceSettings, tokens: KnownTokens | None = None, rates: Rates | None = None
    ) -> None:
        self._app = app
        self._settings = settings
        self._tokens = tokens or KnownTokens(settings)
        self._rates = rates or Rates()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request in.

        Raises
        ------
        UnauthorizedError
            No token, an unknown one, or not from this machine where none is known.
        QuotaExceededError
            Too many requests; `retry_after_s` says when the next one may come.
        TooLargeError
            A body over the limit, announced or not.
        """
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = Headers(scope=scope)
        if not self._is_open(scope):
            token = self._bearer(scope, headers)
            self._count(token.name, token.requests_per_minute or self._settings.token_requests_per_minute)
            state = scope.setdefault("state", {})
            state["token_name"] = token.name
            state["token_jobs"] = token.jobs or self._settings.token_jobs
            if self._tokens.note_use(token):
                await to_thread.run_sync(self._write_uses)
        limit = self._body_limit(headers)
        _check_announced(headers, limit)
        await self._app(scope, _bounded(receive, limit), send)

    def _is_open(self, scope: Scope) -> bool:
        path = scope["path"]
        return path in PROBES or (path == METRICS and self._settings.metrics_open)

    def _bearer(self, scope: Scope, headers: Headers) -> Token:
        if not self._tokens.any:
            _check_local(scope, headers)
            return Token(name=LOCAL, sha256="0" * 64, created=None)
        kind, _, clear = headers.get("authorization", "").partition(" ")
        token = self._tokens.find(clear.strip()) if kind.lower() == "bearer" and clear else None
        if token is None:
            raise UnauthorizedError(
                "a request with a token that nobody knows" if clear else "a request without a token",
                "the header Authorization: Bearer TOKEN",
                "send the token that `tocsin token new` printed",
            )
        return token

    def _count(self, name: str, per_minute: int) -> None:
        wait_s = self._rates.take(name, per_minute)
        if wait_s:
            raise TooOftenError(per_minute, wait_s)

    def _body_limit(self, headers: Headers) -> int:
        is_form = headers.get("content-type", "").lower().startswith("multipart/form-data")
        return self._settings.max_body_bytes if is_form else JSON_BYTES

    def _write_uses(self) -> None:
        try:
            self._tokens.write_uses()
        except (OSError, TocsinError) as error:
            # A full or read-only disk keeps nobody out.
            logger.warning("the last use of a token was not written down: %s", type(error).__name__)


def _check_local(scope: Scope, headers: Headers) -> None:
    """Refuse whoever is not a program of this machine."""
    address = (scope.get("client") or ("", 0))[0]
    origin = headers.get("origin")
    if (
        not is_loopback(address)
        or any(name in headers for name in FORWARDED)
        or not is_loopback(_host(f"//{headers.get('host', '')}"))
        or (origin is not None and not is_loopback(_host(origin)))
        or headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}
    ):
        raise UnauthorizedError(
            "a request from elsewhere, to a service that knows no token",
            "a request from this machine to this machine",
            "make a token with `tocsin token new NAME`, or set TOCSIN_TOKENS, and send it",
        )


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine's own."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _check_announced(headers: Headers, limit: int) -> None:
    """Refuse a body by its header, before a byte of it is read."""
    said = headers.get("content-length", "0")
    if said.isdecimal() and int(said) > limit:
        raise too_many_bytes(f"a body of {said[:20]} bytes", limit)


def _bounded(receive: Receive, limit: int) -> Receive:
    """Return a `receive` that gives no more bytes than the limit."""
    received = 0

    async def bounded() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise too_many_bytes(f"a body of more than {received - 1} bytes", limit)
        return message

    return bounded
