"""What a job is: what was asked for, and everything that is known of it at a moment."""

import re
import secrets
import time
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AnyUrl, AwareDatetime, BaseModel, ConfigDict, Field, UrlConstraints

from tocsin.errors import QueueFullError, TocsinError
from tocsin.result import Hazard, Result
from tocsin.scoring_job import ScoringOptions

State = Literal["queued", "running", "done", "failed", "cancelled"]
WebhookUrl = Annotated[AnyUrl, UrlConstraints(allowed_schemes=["https", "http"], max_length=2048)]

JOB_ID: Final = re.compile(r"[0-9a-f]{12}-[0-9a-f]{20}")
"""Milliseconds since 1970, then chance: ids sort by time, and nobody guesses one."""


def new_job_id() -> str:
    """Return the id of a job to come; its folder is where uploads go before the job is submitted."""
    return f"{time.time_ns() // 1_000_000:012x}-{secrets.token_hex(10)}"


def age_s(job_id: str) -> float:
    """Return the seconds since an id was made."""
    return time.time() - int(job_id[:12], 16) / 1000


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NewJob(_Part):
    """What is submitted."""

    id: str = Field(default_factory=new_job_id, pattern=f"^{JOB_ID.pattern}$", description="names the job's folder")
    token: str = Field(min_length=1, description="name of the token that submits; only it sees the job")
    hazard: Hazard
    inputs: dict[str, Any] = Field(
        description="fields of the hazard's inputs, checked before; files inside the job's folder, or of allowed roots"
    )
    options: ScoringOptions = Field(default_factory=ScoringOptions)
    windows: int | None = Field(default=None, ge=1, description="of the plan, for what a queue is worth in seconds")
    priority: int = Field(default=0, ge=-100, le=100, description="higher ones go first")
    idempotency_key: str | None = Field(
        default=None, min_length=1, max_length=255, description="the same one from the same token: the same job"
    )
    fingerprint: str | None = Field(
        default=None, description="hash of the request; another one under the same key is refused"
    )
    webhook: WebhookUrl | None = Field(default=None, description="told once the job has ended")
    request_id: str | None = Field(default=None, description="of the request that submits, for logs")


class JobError(_Part):
    """Why a job failed."""

    code: str = Field(description="of tocsin.errors")
    http_status: int
    given: str
    expected: str
    todo: str

    @classmethod
    def of(cls, error: TocsinError) -> "JobError":
        """Return what an error says."""
        return cls(
            code=error.code,
            http_status=error.http_status,
            given=error.given,
            expected=error.expected,
            todo=error.todo,
        )


class Job(_Part):
    """Everything that is known of a job."""

    id: str
    token: str
    hazard: Hazard
    inputs: dict[str, Any]
    options: ScoringOptions
    state: State
    progress: float = Field(ge=0, le=1, description="share of the windows that are scored")
    queue_place: int | None = Field(default=None, ge=1, description="1: the next one; null unless queued")
    eta_s: float | None = Field(default=None, ge=0, description="seconds until the end; null when nobody can say")
    attempt: int = Field(default=0, ge=0, description="how often it was begun; over 1 when a process died under it")
    error: JobError | None = Field(default=None, description="null unless failed")
    created: AwareDatetime
    started: AwareDatetime | None = None
    ended: AwareDatetime | None = None
    result: Result | None = Field(default=None, description="null unless done; products are file names in its folder")
    idempotency_key: str | None = None
    webhook: WebhookUrl | None = None
    request_id: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing about it will change any more."""
        return self.state in {"done", "failed", "cancelled"}


class JobQueueFullError(QueueFullError):
    """No place in the queue, with the time after which to come back.

    Attributes
    ----------
    retry_after_s : int
        For the header Retry-After.
    """

    def __init__(self, given: str, expected: str, todo: str, retry_after_s: int = 5) -> None:
        super().__init__(given, expected, todo)
        self.retry_after_s = retry_after_s


# What the store keeps of a job. Each fact is written by one writer only: none is ever read, changed and written back.


class Accepted(_Part):
    """Written once, when a job is accepted."""

    order: NewJob
    created: AwareDatetime


class Run(_Part):
    """Written by the worker that holds the job, and by no other."""

    attempt: int = Field(ge=1)
    started: AwareDatetime
    worker: int | None = Field(description="process id; null once it died and the job waits again")
    done: int = Field(default=0, ge=0, description="windows")
    total: int = Field(default=0, ge=0, description="windows; 0: not known yet")

    @property
    def progress(self) -> float:
        """Share of the windows, 0-1."""
        return min(self.done / self.total, 1.0) if self.total else 0.0


class End(_Part):
    """Written once: the first end is the end."""

    state: Literal["done", "failed", "cancelled"]
    ended: AwareDatetime
    result: Result | None = None
    error: JobError | None = None


def now() -> datetime:
    """Return the time, UTC."""
    return datetime.now(UTC)
