"""The application: one plain ASGI app that takes every path, whatever serves it."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.border import Border, no_route, refused
from serving.forms import HAZARDS
from serving.gate import checks
from serving.gate.access import Access, SafeHeaders
from serving.job_routes import get_product, list_jobs, one_job
from serving.jobs import Jobs
from serving.jobs.supervisor import Supervisor
from serving.observability import Metrics, ModelCanary, Observe, Readiness, Tracing, probes
from serving.routes import get_code, get_document, list_the_models, planning, scoring
from serving.settings import ServiceSettings
from serving.state import Service, service_of
from tocsin.errors import TocsinError
from tocsin.repository import list_models
from tocsin.scoring_job import ScoringOptions

Lifespan = Callable[[Starlette], AbstractAsyncContextManager[None]]


def create_app(settings: ServiceSettings) -> Starlette:
    """Return the application; what it needs is opened when it starts, and closed when it ends.

    Parameters
    ----------
    settings
        Of the service.
    """
    metrics, tracing = Metrics(), Tracing()
    return Starlette(
        routes=_routes(),
        middleware=[
            Middleware(Observe, metrics=metrics, tracing=tracing),
            Middleware(SafeHeaders),
            Middleware(Border),
            Middleware(Access, settings=settings),
        ],
        exception_handlers={TocsinError: refused, HTTPException: no_route},
        lifespan=_lifespan(settings, metrics, tracing),
    )


def _routes() -> list[Route]:
    return [
        *(Route(f"/v1/{hazard}", scoring(hazard), methods=["POST"]) for hazard in HAZARDS),
        *(Route(f"/v1/{hazard}:plan", planning(hazard), methods=["POST"]) for hazard in HAZARDS),
        Route("/v1/jobs", list_jobs),
        Route("/v1/jobs/{job}", one_job, methods=["GET", "DELETE"]),
        Route("/v1/products/{job}/{file}", get_product),
        Route("/v1/models", list_the_models),
        Route("/v1/problems/{code}", get_code),
        Route("/v1/openapi.json", get_document),
        Route("/livez", _livez),
        Route("/readyz", _readyz),
        Route("/metrics", _metrics),
    ]


def _lifespan(settings: ServiceSettings, metrics: Metrics, tracing: Tracing) -> Lifespan:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        async with AsyncExitStack() as stack:
            stack.callback(tracing.close)
            jobs = stack.enter_context(Jobs(settings))
            stack.enter_context(Supervisor(settings))
            canary = ModelCanary(_served(settings), _as_scored(settings))
            stack.callback(canary.close)
            inspection = await stack.enter_async_context(_kept(checks.keep_ready()))
            parts: dict[str, Callable[[], None]] = {"model": canary, "workers": jobs.check_workers, "files": inspection}
            readiness = Readiness(parts, metrics=metrics)
            stack.callback(readiness.close)
            metrics.watch_queue(jobs.counts, settings.queue_length)
            jobs.on_end(metrics.job_ended)
            app.state.service = Service(settings, jobs, metrics, readiness)
            yield

    return lifespan


@asynccontextmanager
async def _kept(endless: Coroutine[None, None, None]) -> AsyncGenerator[Callable[[], None]]:
    """Keep a coroutine going during the block, and lend a check that raises what it ended with."""
    task = asyncio.create_task(endless)

    def check() -> None:
        if task.done() and (error := task.exception()) is not None:
            raise error

    try:
        yield check
    finally:
        task.cancel()
        await asyncio.wait({task})


def _as_scored(settings: ServiceSettings) -> ScoringOptions:
    """Return the options that every scoring of this service has."""
    return ScoringOptions(**settings.runtime_fields(), quiet=True)


def _served(settings: ServiceSettings) -> tuple[str, ...]:
    """Return the models that have to answer: those of the repository that score a hazard."""
    return tuple(name for name in list_models(settings.model_repository) if name in HAZARDS)


async def _livez(_request: Request) -> Response:
    """Answer /livez."""
    return probes.live()


async def _readyz(request: Request) -> Response:
    """Answer /readyz."""
    return await probes.ready(service_of(request).readiness)


async def _metrics(request: Request) -> Response:
    """Answer /metrics."""
    return await probes.metrics(service_of(request).metrics)
