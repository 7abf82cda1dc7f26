"""From a request to a job: files on disk, references fetched, headers inspected, everything else refused."""

import hashlib
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from serving.forms import AOI, Values, checked_inputs, read_values, scoring_options, values_model
from serving.gate import checks, references, uploads
from serving.gate.inputs import FILES, Accepted, Files, scoring_inputs
from serving.jobs import Job, NewJob, new_job_id
from serving.problems import request_id
from serving.state import Service, owner_of, service_of
from tocsin.errors import QuotaExceededError, UsageError
from tocsin.result import Hazard, Result, ScoringPlan

KEY: Final = "Idempotency-Key"


@dataclass(slots=True)
class Intake:
    """A request whose files are here and whose headers were inspected.

    Attributes
    ----------
    order : NewJob
        To be submitted.
    planned : Result
        What scoring it would cost, as of `tocsin HAZARD --dry-run`.
    service : Service
        That it came to.
    accepted : bool
        Whether it became a job, whose folder stays.
    """

    order: NewJob
    planned: Result
    service: Service
    accepted: bool = False

    @property
    def is_small(self) -> bool:
        """Whether the scene is answered at once."""
        rows, columns = self.planned.scene.shape
        return rows * columns <= self.service.settings.direct_megapixels * 1e6

    async def submit(self) -> Job:
        """Accept the job; it survives this process from here on."""
        job = await run_in_threadpool(self.service.jobs.submit, self.order)
        self.accepted = True
        return job


@asynccontextmanager
async def taken_in(request: Request, hazard: Hazard) -> AsyncGenerator[Intake]:
    """Take a request in, in the folder of a job to come, which is removed again unless the job was accepted.

    Raises
    ------
    TocsinError
        What is wrong with the request; nothing of it is left.
    """
    service, job_id = service_of(request), new_job_id()
    await run_in_threadpool(_check_room, service, owner_of(request), request.scope["state"]["token_jobs"])
    folder = await run_in_threadpool(service.jobs.make_folder, job_id)
    intake = None
    try:
        files, fields = await _receive(request, hazard, folder / "in", service)
        intake = await _inspected(request, job_id, hazard, files, read_values(hazard, fields))
        yield intake
    finally:
        if intake is None or not intake.accepted:
            await run_in_threadpool(_tidy, service, job_id)


async def _inspected(request: Request, job_id: str, hazard: Hazard, files: Files, values: Values) -> Intake:
    """Return what came once its headers were inspected."""
    service, key = service_of(request), _key_of(request)
    named = scoring_inputs(hazard, files)
    aoi = named.get(AOI)
    options = scoring_options(service.settings, values, aoi if isinstance(aoi, str) else None)
    inputs = checked_inputs(hazard, named, values)
    with service.metrics.stage(hazard, "check"):
        planned = await checks.inspect(hazard, inputs, options, service.settings)
    order = NewJob(
        id=job_id,
        token=owner_of(request),
        hazard=hazard,
        inputs=inputs,
        options=options,
        windows=planned.summary.windows if isinstance(planned.summary, ScoringPlan) else None,
        idempotency_key=key,
        fingerprint=None if key is None else _fingerprint(hazard, files, values),
        webhook=values.webhook,
        request_id=request_id(request.scope),
    )
    return Intake(order, planned, service)


async def _receive(
    request: Request, hazard: Hazard, folder: Path, service: Service
) -> tuple[Files, Mapping[str, object]]:
    """Return the files of a request, now in `folder`, and its other fields."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        accepted = Accepted(hazard, frozenset(values_model(hazard).model_fields))
        with service.metrics.stage(hazard, "receive"):
            received = await uploads.receive(request, folder, accepted, service.settings)
        return received.files, received.fields
    if kind == "application/json":
        body = await _json_body(request)
        named = {*FILES[hazard], references.ITEM}
        asked = {name: value for name, value in body.items() if name in named}
        with service.metrics.stage(hazard, "fetch"):
            fetched = await references.fetch(hazard, asked, folder, service.settings)
        return fetched, {name: value for name, value in body.items() if name not in named}
    raise UsageError(
        f"a body of {kind[:80] or 'no type'}", "multipart/form-data or application/json", "send files or references"
    )


async def _json_body(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body(), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise UsageError("a body that is no JSON", "a JSON object", "mend the body") from error
    if not isinstance(body, dict):
        raise UsageError(f"JSON that is a {type(body).__name__}", "a JSON object", "name each file by its field")
    return body


def _no_number(text: str) -> float:
    raise ValueError(text)


def _check_room(service: Service, owner: str, most: int) -> None:
    """Refuse before anything is uploaded: the queue is full, or one token has as many jobs as it may have."""
    service.jobs.check_room()
    count = service.jobs.open_of(owner)
    if count >= most:
        raise QuotaExceededError(f"a job beside {count} of this token", f"at most {most}", "wait until one has ended")


def _tidy(service: Service, job_id: str) -> None:
    """Remove what came with a request, unless it became a job after all."""
    if not service.jobs.folders.is_open(job_id):
        service.jobs.discard(job_id)


def _key_of(request: Request) -> str | None:
    key = request.headers.get(KEY)
    if key is not None and not (1 <= len(key) <= 255 and key.isascii() and key.isprintable()):
        raise UsageError(f"{KEY} of {len(key)} characters", "1 to 255 printable ones", "make a shorter key")
    return key


def _fingerprint(hazard: Hazard, files: Files, values: Values) -> str:
    """Return what tells one request from another: its names, sizes and values."""
    held = {name: [(path.name, path.stat().st_size) for path in paths] for name, paths in sorted(files.items())}
    text = json.dumps([hazard, held, values.model_dump(mode="json")], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
