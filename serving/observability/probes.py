"""Answers to /livez, /readyz and /metrics, for the routes of the application."""

from http import HTTPStatus
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from serving.observability.metrics import Metrics
from serving.observability.readiness import Readiness

NOT_KEPT: Final = {"Cache-Control": "no-store"}


def live() -> Response:
    """Answer /livez: the process answers."""
    return JSONResponse({"live": True}, headers=NOT_KEPT)


async def ready(readiness: Readiness) -> Response:
    """Answer /readyz: 200, or 503 with the codes of what is wrong, and no more: it needs no token."""
    verdict = await readiness.verdict()
    codes = {name: error.code for name, error in verdict.errors.items()}
    status = HTTPStatus.OK if verdict.ready else HTTPStatus.SERVICE_UNAVAILABLE
    return JSONResponse({"ready": verdict.ready, "failed": codes}, status, NOT_KEPT)


async def metrics(counted: Metrics) -> Response:
    """Answer /metrics; the text is made in a thread, as it may ask the job store."""
    text, media_type = await run_in_threadpool(counted.render)
    return Response(text, headers={**NOT_KEPT, "Content-Type": media_type})
