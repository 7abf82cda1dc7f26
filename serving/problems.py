"""Errors over HTTP: RFC 9457 problems whose codes are the closed list of `tocsin.errors`.

A problem says what was given, what was expected and what to do, under the id of the request that the log carries too.
It never holds a traceback nor a path of the server: paths below the folder of a job are told by their file name.
"""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Final
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse
from starlette.types import Scope

from tocsin import errors
from tocsin.errors import (
    InternalError,
    QueueFullError,
    QuotaExceededError,
    RuntimeUnavailableError,
    TocsinError,
)

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = 10
"""What Retry-After says where the error does not know better."""

ERRORS: Final = errors.BY_CODE
"""Every code that a problem may carry, with its error."""

_FOLDERS = re.compile(r"(?<![\w:/.~-])(?:/(?!v1/)(?:[^\s/:;,'\"()]+/)+|in/[a-z_0-9-]+/)")


class Problem(BaseModel):
    """Body of every answer that is no success."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: str = Field(description="where the service explains the code")
    title: str = Field(description="what the code means; the same for every problem of it")
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str = Field(description="what was given, what was expected and what to do, in one line")
    instance: str = Field(description="this request: urn:uuid and its id")
    code: str = Field(description="stable name to branch on", json_schema_extra={"enum": [*sorted(ERRORS)]})
    given: str
    expected: str
    todo: str
    request_id: str = Field(description="as in the header X-Request-ID and in the log")


class ProblemResponse(JSONResponse):
    """A problem as a response."""

    media_type = MEDIA_TYPE


def problem(
    error: TocsinError, request_id: str, *, status: int | None = None, headers: Mapping[str, str] | None = None
) -> ProblemResponse:
    """Return the response to a request that failed.

    Parameters
    ----------
    error
        What happened; any other exception is told as `defect`.
    request_id
        Of the request.
    status
        Where the contract gives the code another status than usual (416 for a range); None: the error's.
    headers
        Further headers; a 429 or 503 without Retry-After gets one.
    """
    status = error.http_status if status is None else status
    given, expected, todo = (without_folders(text) for text in (error.given, error.expected, error.todo))
    body = Problem(
        type=f"/v1/problems/{error.code}",
        title=title(type(error)),
        status=status,
        detail=f"given {given}; expected {expected}; do this: {todo}",
        instance=f"urn:uuid:{request_id}",
        code=error.code,
        given=given,
        expected=expected,
        todo=todo,
        request_id=request_id,
    )
    said = dict(headers or {})
    if isinstance(error, QueueFullError | QuotaExceededError | RuntimeUnavailableError):
        said.setdefault("Retry-After", str(RETRY_AFTER_S))
    if status == HTTPStatus.UNAUTHORIZED:
        said.setdefault("WWW-Authenticate", 'Bearer realm="tocsin"')
    return ProblemResponse(body.model_dump(), status, said)


def title(kind: type[TocsinError]) -> str:
    """Return what a code means: the first sentence of its error's docstring."""
    return (kind.__doc__ or kind.code).strip().splitlines()[0].rstrip(".")


def defect() -> InternalError:
    """Return what a client is told of an exception that nobody expected; the log holds the rest."""
    return InternalError("a request that the service failed on", "no such failure", "report it with the request_id")


def request_id(scope: Scope) -> str:
    """Return the id of a request, the same for every layer that asks; a UUID, made when first asked for."""
    state = scope.setdefault("state", {})
    found: str = state.setdefault("request_id", str(uuid4()))
    return found


def without_folders(text: str) -> str:
    """Return a message without the folders of absolute paths: clients know their files by name."""
    return _FOLDERS.sub("", text)
