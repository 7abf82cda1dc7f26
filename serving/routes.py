"""Routes that score and plan, and those that tell about the service itself."""

from collections.abc import Awaitable, Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from serving.intake import taken_in
from serving.job_routes import told
from serving.jobs import Job
from serving.openapi import document
from serving.problems import ERRORS, title
from serving.state import service_of
from serving.views import CodeView, ModelList, link, plan_view, result_view
from tocsin.errors import InterruptedScoringError, NotFoundError, error_of
from tocsin.model_card import ModelCard
from tocsin.repository import list_models, read_manifest
from tocsin.result import Hazard

Endpoint = Callable[[Request], Awaitable[Response]]


def scoring(hazard: Hazard) -> Endpoint:
    """Return what answers POST /v1/HAZARD: 200 with the result of a small scene, else 202 with the job."""

    async def score(request: Request) -> Response:
        service = service_of(request)
        async with taken_in(request, hazard) as intake:
            job = await intake.submit()
        waits = intake.is_small and "respond-async" not in request.headers.get("prefer", "")
        if waits:
            job = await service.jobs.wait(job.id, service.settings.sync_wait_s)
        response = _scored(request, job) if job.is_over and waits else told(request, job, 202)
        response.headers.update({"X-Job-ID": job.id, "Location": link(service.settings, "jobs", job.id)})
        return response

    return score


def planning(hazard: Hazard) -> Endpoint:
    """Return what answers POST /v1/HAZARD:plan: what the same request would cost; nothing is kept."""

    async def plan(request: Request) -> Response:
        async with taken_in(request, hazard) as intake:
            planned = plan_view(intake.planned)
        return JSONResponse(planned.model_dump(mode="json"))

    return plan


async def list_the_models(request: Request) -> Response:
    """Answer GET /v1/models."""
    repository = service_of(request).settings.model_repository

    def read() -> ModelList:
        return ModelList(
            models=tuple(ModelCard.of(read_manifest(each, repository)) for each in list_models(repository))
        )

    return JSONResponse((await run_in_threadpool(read)).model_dump(mode="json"))


async def get_code(request: Request) -> Response:
    """Answer GET /v1/problems/{code}, where the type of a problem leads."""
    kind = ERRORS.get(request.path_params["code"])
    if kind is None:
        raise NotFoundError("a code that there is not", f"one of {', '.join(sorted(ERRORS))}", "choose one of these")
    view = CodeView(code=kind.code, status=kind.http_status, exit_code=kind.exit_code, meaning=title(kind))
    return JSONResponse(view.model_dump())


async def get_document(request: Request) -> Response:
    """Answer GET /v1/openapi.json."""
    return JSONResponse(document(service_of(request).settings))


def _scored(request: Request, job: Job) -> Response:
    """Return what a scoring ended with; the errors of a job are those of the request."""
    if job.error is not None:
        raise error_of(job.error.code, job.error.given, job.error.expected, job.error.todo)
    if job.result is None:
        raise InterruptedScoringError(f"job {job.id}, which was cancelled", "a job that ends", "send it again")
    view = result_view(job.result, job.id, service_of(request).settings)
    return JSONResponse(view.model_dump(mode="json"))
