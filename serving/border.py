"""The process border of the service: whatever happens to a request ends as one problem, never as a traceback."""

import logging
import math
from collections.abc import Mapping
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.problems import defect, problem, request_id
from tocsin.errors import MethodNotAllowedError, NotFoundError, TocsinError, UsageError

logger = logging.getLogger("tocsin.service")


class Border:
    """ASGI middleware that answers what the application raised.

    Parameters
    ----------
    app
        The application, with everything that may fail.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False
        id_ = request_id(scope)

        async def tell(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
            await send(message)

        try:
            await self._app(scope, receive, tell)
        except ClientDisconnect:
            logger.info("the client left", extra={"request_id": id_})
        except Exception as error:
            if not isinstance(error, TocsinError):
                logger.exception("a defect", extra={"request_id": id_, "path": scope["path"]})
            if started:
                raise  # Half an answer cannot be called back; ending it early is what the client must see.
            await answer(scope, error if isinstance(error, TocsinError) else defect())(scope, receive, tell)


def answer(
    scope: Scope, error: TocsinError, status: int | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """Return the answer to a request that failed, and leave its code for the log.

    Parameters
    ----------
    scope
        Of the request.
    error
        What happened; its `retry_after_s`, when it has one, is told.
    status, headers
        As of `serving.problems.problem`.
    """
    wait_s = getattr(error, "retry_after_s", None)
    waiting = {} if wait_s is None else {"Retry-After": str(math.ceil(wait_s))}
    id_ = request_id(scope)
    scope["state"]["error_code"] = error.code
    return problem(error, id_, status=status, headers={**waiting, **(headers or {})})


async def refused(request: Request, error: Exception) -> Response:
    """Answer an error of ours."""
    assert isinstance(error, TocsinError)
    return answer(request.scope, error)


async def no_route(request: Request, error: Exception) -> Response:
    """Answer what no route takes: 404, 405 with Allow, or what the framework refuses."""
    assert isinstance(error, HTTPException)
    given = f"{request.method} {request.url.path}"
    if error.status_code == HTTPStatus.NOT_FOUND:
        known: TocsinError = NotFoundError(given, "a path of the API", "read /v1/openapi.json")
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ", ".join(sorted((error.headers or {}).get("Allow", "").split(", ")))
        known = MethodNotAllowedError(given, allowed, "use one of these methods")
        return answer(request.scope, known, headers={"Allow": allowed})
    else:
        known = UsageError(given, str(error.detail), "read /v1/openapi.json")
    return answer(request.scope, known, error.status_code, error.headers)
