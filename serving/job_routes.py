"""Routes about what was accepted: jobs and their products."""

import re
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from serving.jobs import Job
from serving.jobs.job import JOB_ID
from serving.products_api import product_response
from serving.state import owner_of, service_of
from serving.views import JobList, job_view
from tocsin.errors import NotFoundError, UsageError

_LIMIT: Final = re.compile("[1-9][0-9]{0,2}")


async def list_jobs(request: Request) -> Response:
    """Answer GET /v1/jobs: those of the token, the newest first."""
    service = service_of(request)
    limit = _limit(request)
    jobs = await run_in_threadpool(service.jobs.list, owner_of(request), limit)
    listed = JobList(jobs=tuple(job_view(job, service.settings) for job in jobs))
    return JSONResponse(listed.model_dump(mode="json"))


async def one_job(request: Request) -> Response:
    """Answer GET and DELETE /v1/jobs/{id}; DELETE cancels what waits or runs, and what has ended stays as it is."""
    job = await _own(request)
    if request.method == "DELETE":
        job = await run_in_threadpool(service_of(request).jobs.cancel, job.id)
    return told(request, job)


async def get_product(request: Request) -> Response:
    """Answer GET and HEAD /v1/products/{job}/{file}, whole or in ranges."""
    job = await _own(request)
    folder = service_of(request).jobs.out(job.id)
    return product_response(request, folder, request.path_params["file"])


def told(request: Request, job: Job, status: int = 200) -> JSONResponse:
    """Return a job as a response; one that is not over says when to look again."""
    view = job_view(job, service_of(request).settings)
    headers = {} if job.is_over else {"Retry-After": str(max(1, min(30, round(job.eta_s or 1))))}
    return JSONResponse(view.model_dump(mode="json"), status, headers)


async def _own(request: Request) -> Job:
    """Return the job that a path names, if the token may see it; else there is none."""
    asked = request.path_params["job"]
    job = await run_in_threadpool(service_of(request).jobs.get, asked) if JOB_ID.fullmatch(asked) else None
    if job is None or job.token != owner_of(request):
        raise NotFoundError(f"job {asked[:80]}", "a job of this token that is still kept", "look at GET /v1/jobs")
    return job


def _limit(request: Request) -> int:
    text = request.query_params.get("limit", "100")
    if not _LIMIT.fullmatch(text):
        raise UsageError(f"limit={text[:20]}", "1 to 999", "ask for fewer jobs")
    return int(text)
