"""What passes between a client and a service of tocsin, without a socket: calls, answers, and what both mean.

Nothing here reads or writes the network, so that one set of conversations (`tocsin.client_flows`) has a synchronous and
an asynchronous face.
"""

import json
import re
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

import tocsin
from tocsin.errors import (
    InternalError,
    InterruptedScoringError,
    RuntimeUnavailableError,
    TocsinError,
    UsageError,
    error_of,
)
from tocsin.result import Hazard, Result

ANSWER_S: Final = 60.0
"""How long an answer may take that needs no scoring."""
SCORE_S: Final = 660.0
"""How long one may take that waits for a small scene: a service waits for ten minutes at most."""

Watch = Callable[[int, int], None]
ModelT = TypeVar("ModelT", bound=BaseModel)
ReturnT = TypeVar("ReturnT")


@dataclass(frozen=True, slots=True)
class Form:
    """Files and texts of one request, each under the name of an input or option."""

    files: tuple[tuple[str, Path], ...]
    texts: tuple[tuple[str, str], ...]

    @property
    def size(self) -> int:
        """Bytes of the files."""
        return sum(path.stat().st_size for _, path in self.files)


@dataclass(frozen=True, slots=True)
class Call:
    """One request.

    Attributes
    ----------
    method, path : str
        The path is below the address of the service.
    headers : mapping of str to str
        Beside those of every request.
    body : Form, dict or None
        A form is sent as multipart/form-data, a dict as JSON.
    save : pathlib.Path or None
        Where the body of an answer goes: appended when the answer is a part (206), else anew.
    watch : callable or None
        Told after every block: bytes of the files that were sent, or of the file that was saved, so far and in all.
    timeout_s : float
        How long the service may be silent.
    """

    method: Literal["GET", "POST", "DELETE"]
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Form | dict[str, object] | None = None
    save: Path | None = None
    watch: Watch | None = None
    timeout_s: float = ANSWER_S


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait before the next call."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service answered; of a pause, nothing.

    Attributes
    ----------
    status : int
        Of HTTP.
    headers : mapping of str to str
        By name in lower case.
    body : bytes
        Empty when it was saved.
    """

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def retry_after_s(self) -> float | None:
        """When to come back, None when the service does not say."""
        text = self.headers.get("retry-after", "")
        return float(text) if re.fullmatch(r"\d{1,6}", text) else None


class Lost(Exception):  # noqa: N818 - no failure yet: asking again may help
    """The connection failed, or ended in the middle of an answer. Never leaves the client.

    Parameters
    ----------
    message : str
        What happened.
    etag : str, optional
        Of the answer that was being saved.
    """

    def __init__(self, message: str, etag: str | None = None) -> None:
        super().__init__(message)
        self.etag = etag


Flow = Generator[Call | Pause, Answer, ReturnT]
"""A conversation: yields what to do, is sent what came of it, or is thrown `Lost`; returns what was asked for."""


class JobFailure(BaseModel):
    """Why a job failed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: str
    given: str
    expected: str
    todo: str


class RemoteJob(BaseModel):
    """A job of the service, as it was when it was asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[A-Za-z0-9_-]+$")
    href: str
    hazard: Hazard
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    progress: float = Field(ge=0, le=1, description="share of the windows that are scored")
    queue_place: int | None = Field(description="1: the next one; None unless queued")
    eta_s: float | None = Field(description="seconds until the end; None when nobody can say")
    created: AwareDatetime
    started: AwareDatetime | None
    ended: AwareDatetime | None
    error: JobFailure | None = Field(description="None unless failed")
    result: Result | None = Field(description="None unless done; products are links")

    @property
    def is_over(self) -> bool:
        """Whether nothing about it will change any more."""
        return self.state in {"done", "failed", "cancelled"}

    def outcome(self) -> Result:
        """Return its result, products as links of the service.

        Raises
        ------
        TocsinError
            The job failed, with the error of its code; it was cancelled, or is not over.
        """
        if self.error is not None:
            raise error_of(self.error.code, self.error.given, self.error.expected, self.error.todo)
        if self.state == "cancelled":
            raise InterruptedScoringError(f"job {self.id}, which was cancelled", "a job that ends", "send it again")
        if self.result is None:
            raise UsageError(f"job {self.id}, which is {self.state}", "a job that is done", "wait for it")
        return self.result


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a scoring by the service is.

    Attributes
    ----------
    stage : str
        upload and download count bytes, score counts shares of 1.
    done, total : float
        Of the stage.
    job : RemoteJob or None
        While it waits or runs.
    """

    stage: Literal["upload", "score", "download"]
    done: float
    total: float
    job: RemoteJob | None = None


OnProgress = Callable[[Progress], None]


def address(service: str) -> str:
    """Return the address of a service without a slash at its end.

    Raises
    ------
    UsageError
        It is no address of HTTP, or holds a user, a query or a fragment.
    """
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", service):
        raise UsageError(f"service {service!r}", "https://HOST[:PORT][/PREFIX], or http://", "give its address")
    return service.rstrip("/")


def problem_of(answer: Answer, call: Call) -> TocsinError:
    """Return what an answer that is no success means: the error of its problem's code."""
    said = f"{answer.status} from {call.method} {call.path}"
    try:
        body = json.loads(answer.body)
        code, given, expected, todo = (str(body[name]) for name in ("code", "given", "expected", "todo"))
    except (ValueError, TypeError, KeyError):
        expected = "an answer of a tocsin service"
        if answer.status < 400:
            return RuntimeUnavailableError(
                f"{said} to {answer.headers.get('location', 'elsewhere')}",
                expected,
                "give the address that it leads to",
            )
        return RuntimeUnavailableError(said, expected, "check the address of the service, and what stands before it")
    if code == InternalError.code:
        given = f"{given} (request {body.get('request_id', 'without an id')})"
    return error_of(code, given, expected, todo)


def read_as(model: type[ModelT], answer: Answer, call: Call) -> ModelT:
    """Return an answer as a model.

    Raises
    ------
    InternalError
        It is another one: the service is of another version.
    """
    try:
        return model.model_validate_json(answer.body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InternalError(
            f"an answer to {call.method} {call.path} whose {where or 'body'} is odd: {first['msg']}",
            f"one as tocsin {tocsin.__version__} knows it",
            "use a client and a service of the same version",
        ) from error
