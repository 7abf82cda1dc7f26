"""One attempt at one job: score aside, let the products appear whole, write down the end."""

import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from serving.jobs.bell import ring
from serving.jobs.folders import RESULT, Folders, Lease
from serving.jobs.job import End, JobError, NewJob, Run, now
from serving.jobs.store import NO_ROOM, JobStore
from serving.settings import ServiceSettings
from tocsin.errors import (
    DeadlineExceededError,
    InternalError,
    InterruptedScoringError,
    RuntimeUnavailableError,
    StorageFullError,
    TocsinError,
    TooLargeError,
)
from tocsin.result import Result
from tocsin.scoring import Scorer

TOLD_S: Final = 0.25
"""Least time between two notes of progress."""
PAUSES_S: Final = (0.5, 8.0)
"""Shortest and longest pause before a runtime that is away is tried again; each is twice the one before."""
RECORD_S: Final = 1.0
"""Pause before the end of a job is written down again, when the store could not."""

_log = logging.getLogger(__name__)


class CancelledError(Exception):
    """The job was cancelled while it ran."""


class StoppedError(Exception):
    """The service stops: another worker takes the job up again."""


class UncertainError(Exception):
    """The process met what nobody expected: it had better be replaced."""


@dataclass
class Attempt:
    """A job in the hands of this process.

    Attributes
    ----------
    settings : ServiceSettings
        Of the service.
    folders : Folders
        Of the service.
    store : JobStore
        Of the service.
    lease : Lease
        On the job; given back here in any case.
    stopping : callable
        Says whether the service stops.
    """

    settings: ServiceSettings
    folders: Folders
    store: JobStore
    lease: Lease
    stopping: Callable[[], bool]
    _run: Run | None = field(default=None, init=False)
    _order: NewJob | None = field(default=None, init=False)
    _began: float = field(default_factory=time.monotonic, init=False)
    _told: float = field(default=0.0, init=False)
    _scored_s: float = field(default=0.0, init=False)

    def make(self, scorer: Scorer, job_id: str) -> None:
        """Score the job, unless it has ended or was begun too often.

        Raises
        ------
        UncertainError
            It has ended, and this process should.
        TocsinError
            The store failed; the job stays open.
        """
        try:
            facts = self.store.facts([job_id]).get(job_id)
            if facts is None or facts.end is not None:
                self.folders.clear(job_id)
                self.lease.end()
                return
            self._order = facts.accepted.order
            if facts.cancel_asked:
                self._end(End(state="cancelled", ended=now()))
            else:
                self._begin(scorer, self._order)
        finally:
            os.chdir(self.folders.state)
            self.lease.give_back()

    def _begin(self, scorer: Scorer, order: NewJob) -> None:
        """Make the attempt and write down how it ended."""
        self.folders.clear_partial(order.id)
        found = self.folders.out(order.id) / RESULT
        if found.exists():
            # A worker before this one was killed between its last product and its note of the end.
            self._end(done(Result.model_validate_json(found.read_text(encoding="utf-8"))))
            return
        number = self.store.begin(order.id)
        if number > self.settings.job_attempts:
            self._end(failed(died_too_often(self.settings.job_attempts)))
            return
        self._run = Run(attempt=number, started=now(), worker=os.getpid())
        self.store.put_run(order.id, self._run)
        os.chdir(self.folders.job(order.id))
        doubt: Exception | None = None
        try:
            end = done(self._score(scorer, order, number))
        except CancelledError:
            end = End(state="cancelled", ended=now())
        except StoppedError:
            self._put_back(order)
            return
        except TocsinError as error:
            end = failed(error)
        except MemoryError as error:
            end, doubt = failed(_needs_too_much(self.settings)), error
        except Exception as error:  # noqa: BLE001 - the border of the process: a defect ends a job, not the service
            end, doubt = _of_exception(order.id, error)
        self._end(end)
        if doubt is not None:
            raise UncertainError from doubt

    def _score(self, scorer: Scorer, order: NewJob, number: int) -> Result:
        """Score into a folder aside and rename it, so that the products appear whole."""
        partial = self.folders.partial(order.id, number)
        result = self._patiently(scorer, order, partial.name)
        result = result.model_copy(
            update={"products": {name: os.path.basename(path) for name, path in result.products.items()}}  # noqa: PTH119 - of a string
        )
        (partial / RESULT).write_text(result.to_json(), encoding="utf-8")
        partial.rename(self.folders.out(order.id))
        self._scored_s = time.monotonic() - self._began
        return result

    def _patiently(self, scorer: Scorer, order: NewJob, out: str) -> Result:
        """Score; a server that is away is asked again for a while, what is missing here is not."""
        options = order.options.model_copy(update={"quiet": True, "overwrite": True, "dry_run": False})
        until = time.monotonic() + self.settings.runtime_patience_s
        pause, longest = PAUSES_S
        while True:
            try:
                return scorer.score(order.hazard, out=out, options=options, on_progress=self._progress, **order.inputs)
            except RuntimeUnavailableError as error:
                if "://" not in options.runtime or time.monotonic() + pause > until:
                    raise
                _log.warning("job %s: %s; tried again in %.1f s", order.id, error, pause)
            self._pause(pause)
            pause = min(2 * pause, longest)

    def _pause(self, seconds: float) -> None:
        """Wait, and notice what ends an attempt."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._check()
            time.sleep(min(left, TOLD_S))

    def _progress(self, windows: int, total: int) -> None:
        """Note how far it is, and end the attempt where it must not go on."""
        assert self._run is not None, "a scoring was begun"
        assert self._order is not None, "a scoring was begun"
        self._check()
        self._run = self._run.model_copy(update={"done": windows, "total": total})
        if time.monotonic() - self._told >= TOLD_S:
            self._told = time.monotonic()
            # A store that is away for a moment costs a note of progress, not the work.
            with suppress(TocsinError):
                self.store.put_run(self._order.id, self._run)

    def _check(self) -> None:
        """Raise what ends an attempt."""
        assert self._order is not None, "a scoring was begun"
        if self.stopping():
            raise StoppedError
        if time.monotonic() - self._began > self.settings.job_deadline_s:
            raise over_time(self.settings)
        asked = False
        with suppress(TocsinError):
            asked = self.store.cancel_asked(self._order.id)
        if asked:
            raise CancelledError

    def _put_back(self, order: NewJob) -> None:
        """Let another worker begin anew: that the service stops is no fault of the job."""
        self.folders.clear_partial(order.id)
        self.store.take_back(order.id)
        if self._run is not None:
            self.store.put_run(order.id, self._run.model_copy(update={"worker": None}))
        # Another worker that takes it from the queue leaves what somebody holds.
        self.lease.give_back()
        self.store.enqueue(order.id, order.priority)

    def _end(self, end: End) -> None:
        """Write down the end, as long as it takes: the first one counts."""
        assert self._order is not None, "the job is known"
        # What failed may have filled the disk: its leavings go first.
        self.folders.clear_partial(self._order.id)
        while True:
            try:
                self.store.end(self._order.id, end)
                break
            except TocsinError as error:
                if self.stopping():
                    raise
                _log.warning("job %s ended, which could not be written down: %s", self._order.id, error)
            time.sleep(RECORD_S)
        # Somebody waits for this; nobody for what comes after it.
        ring(self.folders.ended_bells, self._order.id)
        self.folders.clear(self._order.id)
        self.lease.end()
        if end.state == "done" and self._run is not None and self._run.total:
            with suppress(TocsinError):
                self.store.put_pace(self._order.hazard, self._scored_s / self._run.total)


def done(result: Result) -> End:
    """Return the end of a job with products."""
    return End(state="done", ended=now(), result=result)


def failed(error: TocsinError) -> End:
    """Return the end of a job with a reason."""
    return End(state="failed", ended=now(), error=JobError.of(error))


def died_too_often(attempts: int) -> InterruptedScoringError:
    """Return the reason of a job under which process after process died."""
    return InterruptedScoringError(
        f"a job whose process died {attempts} times", "a process that lives to its end", "submit a smaller scene"
    )


def over_time(settings: ServiceSettings) -> DeadlineExceededError:
    """Return the reason of a job that takes too long."""
    return DeadlineExceededError(
        f"a job that takes more than {settings.job_deadline_s:g} s", "one that ends within", "submit a smaller scene"
    )


def _needs_too_much(settings: ServiceSettings) -> TooLargeError:
    limit = settings.worker_memory_bytes
    allowed = f"{limit >> 20} MiB" if limit else "its share of the machine"
    return TooLargeError("a scene that needs more memory than a worker has", allowed, "submit a smaller scene")


def _of_exception(job_id: str, error: Exception) -> tuple[End, Exception | None]:
    """Return the end for what is no error of ours, and whether the process should end over it."""
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        full = StorageFullError(f"a scoring without room ({error.strerror})", "room for products", "come back later")
        return failed(full), None
    _log.error("job %s failed by a defect", job_id, exc_info=error)
    defect = InternalError(
        "a scoring that the service failed on", "no such failure", "report it with the id of the job"
    )
    return failed(defect), error
