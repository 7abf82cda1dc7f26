"""What clients see of jobs and results: no folder of the server, products as links."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from serving.jobs.job import Job, JobError, State
from serving.problems import without_folders
from serving.settings import ServiceSettings
from tocsin.model_card import ModelCard
from tocsin.result import Hazard, InputFile, Result


class _View(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class JobFailure(_View):
    """Why a job failed."""

    code: str = Field(description="of the closed list of codes")
    given: str
    expected: str
    todo: str

    @classmethod
    def of(cls, error: JobError) -> "JobFailure":
        """Return what a client is told of an error."""
        given, expected, todo = (without_folders(text) for text in (error.given, error.expected, error.todo))
        return cls(code=error.code, given=given, expected=expected, todo=todo)


class JobView(_View):
    """A job: what it does now, and what came of it."""

    id: str
    href: str = Field(description="of this job")
    hazard: Hazard
    state: State
    progress: Annotated[float, Field(ge=0, le=1, description="share of the windows that are scored")]
    queue_place: int | None = Field(description="1: the next one; null unless queued")
    eta_s: float | None = Field(description="seconds until the end; null when nobody can say")
    created: AwareDatetime
    started: AwareDatetime | None
    ended: AwareDatetime | None
    error: JobFailure | None = Field(description="null unless failed")
    result: Result | None = Field(description="null unless done; products are links")


class JobList(_View):
    """Jobs of one token, the newest first."""

    jobs: tuple[JobView, ...]


class EndedJob(_View):
    """What a webhook tells of a job."""

    id: str
    hazard: Hazard
    state: Literal["done", "failed", "cancelled"]
    error: JobError | None = Field(description="null unless failed")
    href: str = Field(description="of the job, with its result")


class JobEnded(_View):
    """Body of a webhook."""

    type: Literal["job.ended"]
    timestamp: AwareDatetime
    data: EndedJob


class CodeView(_View):
    """What a code means."""

    code: str
    status: int = Field(description="of HTTP")
    exit_code: int = Field(description="of the command line")
    meaning: str


class ModelList(_View):
    """Models that the service can run."""

    models: tuple[ModelCard, ...]


def job_view(job: Job, settings: ServiceSettings) -> JobView:
    """Return what a client sees of a job."""
    return JobView(
        id=job.id,
        href=link(settings, "jobs", job.id),
        hazard=job.hazard,
        state=job.state,
        progress=job.progress,
        queue_place=job.queue_place,
        eta_s=job.eta_s,
        created=job.created,
        started=job.started,
        ended=job.ended,
        error=None if job.error is None else JobFailure.of(job.error),
        result=None if job.result is None else result_view(job.result, job.id, settings),
    )


def result_view(result: Result, job_id: str, settings: ServiceSettings) -> Result:
    """Return a result with links to its products, and its inputs by the names that the client knows."""
    products = {name: link(settings, "products", job_id, file_name(path)) for name, path in result.products.items()}
    return plan_view(result).model_copy(update={"products": products})


def plan_view(result: Result) -> Result:
    """Return a result without folders of the server: inputs by the names that clients gave, messages without paths."""
    inputs = tuple(InputFile(href=without_folders(each.href), sha256=each.sha256) for each in result.provenance.inputs)
    warnings = tuple(each.model_copy(update={"message": without_folders(each.message)}) for each in result.warnings)
    provenance = result.provenance.model_copy(update={"inputs": inputs})
    return result.model_copy(update={"provenance": provenance, "warnings": warnings})


def link(settings: ServiceSettings, *parts: str) -> str:
    """Return the address of something below /v1: below `public_url` where that is set."""
    return "/".join(((settings.public_url or "").rstrip("/"), "v1", *parts))


def file_name(path: str) -> str:
    """Return the last part of a path."""
    return path.rpartition("/")[2]


def _given(href: str) -> str:
    """Return an input as the client named it: an address whole, of an upload the file name."""
    return href if "://" in href else ";".join(file_name(part) for part in href.split(";"))
