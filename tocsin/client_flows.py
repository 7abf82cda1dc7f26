"""What a client and a service of tocsin say to each other, as conversations without input or output.

Each flow is a generator: it yields a `Call` or a `Pause`, is sent the `Answer`, and returns what was asked for. A face
(`tocsin.client`) carries it out, waiting as it likes. What can be repeated without harm is repeated while the service
is away or busy: every scoring carries an Idempotency-Key, so that a request whose answer was lost is no second job.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict

from tocsin.client_request import body_of, known_hazard, scene_id
from tocsin.client_wire import (
    SCORE_S,
    Answer,
    Call,
    Flow,
    Form,
    Lost,
    OnProgress,
    Pause,
    Progress,
    RemoteJob,
    Watch,
    problem_of,
    read_as,
)
from tocsin.errors import (
    DeadlineExceededError,
    InternalError,
    RuntimeUnavailableError,
    StorageFullError,
    TocsinError,
    UsageError,
)
from tocsin.model_card import ModelCard
from tocsin.result import ProductName, Result

FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 10.0
"""Between two tries of a call that was lost."""
LOOK_S: Final = 5.0
"""Longest pause between two looks at a job, whatever the service says."""


class JobList(BaseModel):
    """Jobs of one token."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    jobs: tuple[RemoteJob, ...]


class ModelList(BaseModel):
    """Models that the service can run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: tuple[ModelCard, ...]


class Flows:
    """The conversations, each begun by a method.

    Parameters
    ----------
    patience_s
        How long a call is repeated, in all, while the service is away or says that it is busy.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s

    def score(
        self,
        hazard: str,
        out: Path,
        named: Mapping[str, Any],
        on_progress: OnProgress | None = None,
        *,
        overwrite: bool = False,
    ) -> Flow[Result]:
        """Send a scene, wait until it is scored, and fetch its products; an interrupt cancels the job."""
        body = body_of(known_hazard(hazard), named)
        _refuse_existing(out, scene_id(body), overwrite=overwrite)
        call = _scoring(hazard, body, on_progress)
        answer = yield from self._sent(call)
        if answer.status == 200:
            job_id, result = answer.headers.get("x-job-id", ""), read_as(Result, answer, call)
        else:
            job_id = read_as(RemoteJob, answer, call).id
            result = (yield from self._waited_or_cancelled(job_id, on_progress)).outcome()
        fetched = yield from self._fetched(result, job_id, out, on_progress, overwrite=overwrite)
        return _with_names(fetched, body)

    def submit(self, hazard: str, named: Mapping[str, Any], on_progress: OnProgress | None = None) -> Flow[RemoteJob]:
        """Send a scene and return the job, without waiting for it."""
        call = _scoring(hazard, body_of(known_hazard(hazard), named), on_progress, Prefer="respond-async")
        return read_as(RemoteJob, (yield from self._sent(call)), call)

    def plan(self, hazard: str, named: Mapping[str, Any], on_progress: OnProgress | None = None) -> Flow[Result]:
        """Send a scene and return what scoring it would cost."""
        body = body_of(known_hazard(hazard), named)
        call = Call("POST", f"/v1/{hazard}:plan", body=body, watch=_watching("upload", on_progress))
        return _with_names(read_as(Result, (yield from self._sent(call)), call), body)

    def job(self, job_id: str) -> Flow[RemoteJob]:
        """Return a job as it is now."""
        call = Call("GET", f"/v1/jobs/{_segment(job_id)}")
        return read_as(RemoteJob, (yield from self._patiently(call)), call)

    def jobs(self) -> Flow[tuple[RemoteJob, ...]]:
        """Return the jobs of this token, the newest first."""
        call = Call("GET", "/v1/jobs")
        return read_as(JobList, (yield from self._patiently(call)), call).jobs

    def models(self) -> Flow[tuple[ModelCard, ...]]:
        """Return the models that the service can run."""
        call = Call("GET", "/v1/models")
        return read_as(ModelList, (yield from self._patiently(call)), call).models

    def cancel(self, job_id: str) -> Flow[RemoteJob]:
        """Cancel a job; one that has ended stays as it is."""
        call = Call("DELETE", f"/v1/jobs/{_segment(job_id)}")
        return read_as(RemoteJob, (yield from self._patiently(call)), call)

    def wait(
        self, job_id: str, timeout_s: float | None = None, on_progress: OnProgress | None = None
    ) -> Flow[RemoteJob]:
        """Return a job once it is over."""
        waited_s, call = 0.0, Call("GET", f"/v1/jobs/{_segment(job_id)}")
        while True:
            answer = yield from self._patiently(call)
            job = read_as(RemoteJob, answer, call)
            if on_progress is not None:
                on_progress(Progress("score", job.progress, 1.0, job))
            if job.is_over:
                return job
            pause_s = min(LOOK_S, answer.retry_after_s or FIRST_PAUSE_S)
            if timeout_s is not None and waited_s + pause_s > timeout_s:
                raise DeadlineExceededError(
                    f"job {job_id}, {job.state} after {waited_s:g} s", f"its end within {timeout_s:g} s", "wait longer"
                )
            yield Pause(pause_s)
            waited_s += pause_s

    def download(
        self, job_id: str, out: Path, on_progress: OnProgress | None = None, *, overwrite: bool = False
    ) -> Flow[Result]:
        """Fetch the products of a job that is done."""
        result = (yield from self.job(job_id)).outcome()
        return (yield from self._fetched(result, job_id, out, on_progress, overwrite=overwrite))

    def _sent(self, call: Call) -> Flow[Answer]:
        """Make a call that sends files."""
        try:
            return (yield from self._patiently(call))
        except OSError as error:
            raise UsageError(f"{error.filename} ({error.strerror})", "a file that can be read", "check it") from error

    def _patiently(self, call: Call) -> Flow[Answer]:
        """Make a call again while the service is away or busy, at most as long as patience lasts."""
        patience = _Patience(self._patience_s)
        while True:
            least_s: float | None = 0.0
            try:
                answer = yield call
            except Lost as lost:
                error = _away(call, lost)
                again = _resumed(call, lost)
                if again != call:
                    patience = _Patience(self._patience_s)
                call = again
            else:
                if 200 <= answer.status < 300:
                    return answer
                error, least_s = problem_of(answer, call), answer.retry_after_s
            if least_s is None:
                raise error
            yield patience.pause(error, least_s)

    def _waited_or_cancelled(self, job_id: str, on_progress: OnProgress | None) -> Flow[RemoteJob]:
        """Wait for a job; whatever ends the waiting early cancels it, if the service can still be told."""
        try:
            return (yield from self.wait(job_id, None, on_progress))
        except (GeneratorExit, TocsinError):
            raise
        except BaseException:
            with suppress(Lost):
                yield Call("DELETE", f"/v1/jobs/{_segment(job_id)}")
            raise

    def _fetched(
        self, result: Result, job_id: str, out: Path, on_progress: OnProgress | None, *, overwrite: bool
    ) -> Flow[Result]:
        """Fetch every product aside, then give all their names at once; return the result with local paths."""
        from tocsin.product_files import SUFFIXES, ProductFiles

        names = {name: f"{result.scene.id}{suffix}" for name, suffix in SUFFIXES.items() if name in result.products}
        _check_links(result, names)
        files = ProductFiles(out, result.scene.id, overwrite=overwrite)
        try:
            for name, file_name in names.items():
                yield from self._patiently(
                    Call(
                        "GET",
                        f"/v1/products/{_segment(job_id)}/{file_name}",
                        headers={"Accept-Encoding": "identity"},
                        save=files.working(name),
                        watch=_watching("download", on_progress),
                    )
                )
            products = files.commit() if names else {}
        except OSError as error:
            raise StorageFullError(
                f"{out} ({error})", "room for the products", "free some space or choose another folder"
            ) from error
        finally:
            files.discard()
        return result.model_copy(update={"products": products})


class _Patience:
    """Pauses between tries, each twice as long as the one before, until they are too long in all."""

    def __init__(self, limit_s: float) -> None:
        self._left_s, self._next_s = limit_s, FIRST_PAUSE_S

    def pause(self, error: TocsinError, least_s: float) -> Pause:
        """Return the next pause; raise the error when there is no patience left for it."""
        seconds = max(self._next_s, least_s)
        if seconds > self._left_s:
            raise error
        self._left_s, self._next_s = self._left_s - seconds, min(2 * self._next_s, LONGEST_PAUSE_S)
        return Pause(seconds)


def _scoring(hazard: str, body: Form | dict[str, object], on_progress: OnProgress | None, **headers: str) -> Call:
    """Return the call that sends a scene."""
    return Call(
        "POST",
        f"/v1/{hazard}",
        headers={"Idempotency-Key": uuid4().hex, **headers},
        body=body,
        watch=_watching("upload", on_progress),
        timeout_s=SCORE_S,
    )


def _watching(stage: Literal["upload", "download"], on_progress: OnProgress | None) -> Watch | None:
    if on_progress is None:
        return None
    return lambda done, total: on_progress(Progress(stage, done, total))


def _away(call: Call, lost: Lost) -> TocsinError:
    return RuntimeUnavailableError(
        f"the service, lost at {call.method} {call.path} ({lost})", "an answer", "check its address, and that it runs"
    )


def _resumed(call: Call, lost: Lost) -> Call:
    """Return the call that goes on with a download that was lost: the rest of the same file, else all of it."""
    if call.save is None:
        return call
    have = call.save.stat().st_size if call.save.exists() else 0
    etag = lost.etag or call.headers.get("If-Range")
    headers = {name: value for name, value in call.headers.items() if name not in {"Range", "If-Range"}}
    part = {"Range": f"bytes={have}-", "If-Range": etag} if have and etag else {}
    return replace(call, headers={**headers, **part})


def _segment(job_id: str) -> str:
    """Return the id of a job as a part of a path."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", job_id):
        raise UsageError(f"job {job_id!r}", "the id of a job", "take it from the list of jobs")
    return job_id


def _refuse_existing(out: Path, scene: str | None, *, overwrite: bool) -> None:
    """Refuse a folder that holds products of this scene, before anything is sent."""
    from tocsin.product_files import ProductFiles

    if scene is not None:
        ProductFiles(out, scene, overwrite=overwrite)


def _check_links(result: Result, names: Mapping[ProductName, str]) -> None:
    """Refuse names that would leave the folder, and products that this version does not know."""
    if Path(result.scene.id).name != result.scene.id or names.keys() != result.products.keys():
        raise InternalError(
            f"a result with products {sorted(result.products)} of scene {result.scene.id!r}",
            "files of a folder",
            "use a client and a service of the same version",
        )
    for name, file_name in names.items():
        if PurePosixPath(result.products[name]).name != file_name:
            raise InternalError(f"the product {result.products[name]}", file_name, "report it to the operator")


def _with_names(result: Result, body: Form | dict[str, object]) -> Result:
    """Return a result whose inputs are named as they were given, as a scoring on this machine names them."""
    sent = body.files if isinstance(body, Form) else ()
    given = {path.name: path for _, path in sent}
    if len(given) < len(sent):
        return result
    inputs = tuple(
        each.model_copy(update={"href": str(given.get(PurePosixPath(each.href).name, each.href))})
        for each in result.provenance.inputs
    )
    return result.model_copy(update={"provenance": result.provenance.model_copy(update={"inputs": inputs})})
