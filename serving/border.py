"""The process border of the service: whatever happens to a request ends as one problem, never as a traceback."""

import logging
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.problems import defect, problem, request_id
from tocsin.errors import MethodNotAllowedError, NotFoundError, TocsinError, UsageError

logger = logging.getLogger("tocsin.service")


class Border:
    """ASGI middleware that answers what the application raised, and gives every answer the id of its request.

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
                message = {**message, "headers": [*message.get("headers", ()), (b"x-request-id", id_.encode())]}
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
            known = error if isinstance(error, TocsinError) else defect()
            await problem(known, id_)(scope, receive, tell)


async def refused(request: Request, error: Exception) -> Response:
    """Answer an error of ours."""
    assert isinstance(error, TocsinError)
    wait_s = getattr(error, "retry_after_s", None)
    headers = {} if wait_s is None else {"Retry-After": str(wait_s)}
    return problem(error, request_id(request.scope), headers=headers)


async def no_route(request: Request, error: Exception) -> Response:
    """Answer what no route takes: 404, 405 with Allow, or what the framework refuses."""
    assert isinstance(error, HTTPException)
    given = f"{request.method} {request.url.path}"
    if error.status_code == HTTPStatus.NOT_FOUND:
        known: TocsinError = NotFoundError(given, "a path of the API", "read /v1/openapi.json")
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "another method")
        known = MethodNotAllowedError(given, allowed, "use one of these methods")
    else:
        known = UsageError(given, str(error.detail), "read /v1/openapi.json")
    return problem(known, request_id(request.scope), status=error.status_code, headers=error.headers)
