"""`Jobs`: what the API knows of jobs. One per process, for every thread and event loop of it."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Self

from serving.jobs.bell import is_heard, ring
from serving.jobs.estimate import Queue, describe, state_of
from serving.jobs.folders import Folders
from serving.jobs.job import Accepted, End, Job, JobQueueFullError, NewJob, now
from serving.jobs.listening import Listener
from serving.jobs.store import Facts, JobStore, store_url
from serving.jobs.webhooks import check_webhook
from serving.settings import ServiceSettings
from tocsin.errors import NotFoundError, RuntimeUnavailableError, StorageFullError, TocsinError, UsageError

LOOK_S: Final = 1.0
"""How often a waiting caller looks into the store, rung or not."""
LISTED: Final = 100
"""Jobs of a list, the newest ones."""
RETRY_S: Final = (1, 300)
"""Least and most that a client is told to wait for a place."""


class Jobs:
    """Jobs of the service.

    Methods that are no coroutines look into the store, some milliseconds at most: call them from a thread where that
    matters. Several processes may have one each, over the same state folder.

    Parameters
    ----------
    settings
        Of the service.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self.folders = Folders(settings.state)
        self._store = JobStore(store_url(settings))
        self._listener = Listener(self.folders.ended_bells)

    def make_folder(self, job_id: str) -> Path:
        """Make the folder of a job that is about to be submitted; uploads go into its `in`.

        Raises
        ------
        StorageFullError
            There is no room.
        """
        try:
            return self.folders.make(job_id)
        except OSError as error:
            raise _full(error) from error

    def discard(self, job_id: str) -> None:
        """Remove the folder of a job that was not submitted after all."""
        self.folders.remove(job_id)

    def out(self, job_id: str) -> Path:
        """Return the folder of a job's products: there, and whole, once the job is done."""
        return self.folders.out(job_id)

    def check_room(self) -> None:
        """Refuse before anything is uploaded; `submit` looks again.

        Raises
        ------
        JobQueueFullError
            The queue is full.
        """
        waiting = len(self.folders.open_ids())
        if waiting >= self._settings.queue_length:
            raise JobQueueFullError(
                f"a job beside {waiting} that wait or run",
                f"at most {self._settings.queue_length}",
                "come back later",
                self._retry_after_s(),
            )

    def find(self, token: str, idempotency_key: str, fingerprint: str | None = None) -> Job | None:
        """Return the job that a token submitted under a key before, None when there is none.

        Raises
        ------
        UsageError
            The same key came with another request.
        """
        known = self._store.named(token, idempotency_key)
        facts = self._store.facts([known]).get(known) if known else None
        if facts is None:
            return None
        if fingerprint != facts.accepted.order.fingerprint:
            raise UsageError(
                f"Idempotency-Key {idempotency_key} with another request than before",
                "a key of its own for every request",
                "make a new key",
            )
        return self._described([facts])[0]

    def submit(self, new: NewJob) -> Job:
        """Accept a job; what is returned survives every process.

        Parameters
        ----------
        new
            Its folder is there, or it needs none. Names of files inside the folder are kept relative to it.

        Returns
        -------
        Job
            Queued; or the one that the same idempotency key named before: then the folder of the new one is removed.

        Raises
        ------
        JobQueueFullError
            The queue is full; `retry_after_s` says when to come back.
        StorageFullError
            There is no room to write it down.
        UsageError
            The idempotency key came with another request before.
        ForbiddenReferenceError
            The webhook's host is not allowed.
        """
        check_webhook(new.webhook, self._settings)
        with self.folders.alone("submit"):
            if new.idempotency_key is not None:
                known = self.find(new.token, new.idempotency_key, new.fingerprint)
                if known is not None:
                    self.discard(new.id)
                    return known
            self.check_room()
            self._accept(new)
        ring(self.folders.work_bells, new.id)
        return self.get(new.id)

    def _accept(self, new: NewJob) -> None:
        inside = f"{self.folders.job(new.id)}/"
        order = new.model_copy(
            update={"inputs": {name: _relative(value, inside) for name, value in new.inputs.items()}}
        )
        try:
            self.folders.job(new.id).mkdir(mode=0o700, exist_ok=True)
            if new.webhook is not None:
                self.folders.hook(new.id).touch(mode=0o600)
            self.folders.open_one(new.id)
        except OSError as error:
            raise _full(error) from error
        try:
            self._store.accept(Accepted(order=order, created=now()))
        except TocsinError:
            self.folders.hook(new.id).unlink(missing_ok=True)
            self.folders.close_one(new.id)
            raise

    def get(self, job_id: str) -> Job:
        """Return a job.

        Raises
        ------
        NotFoundError
            There is none of this id, or no longer.
        """
        facts = self._store.facts([job_id])
        if job_id not in facts:
            raise NotFoundError(f"job {job_id}", "one that was accepted and is still kept", "check the id")
        return self._described([facts[job_id]])[0]

    def list(self, token: str | None = None, limit: int = LISTED) -> tuple[Job, ...]:
        """Return the newest jobs of a token, None: of all, the newest first."""
        found: tuple[Facts, ...] = ()
        ids = self.folders.ids()
        for start in range(0, len(ids), LISTED):
            if len(found) >= limit:
                break
            some = self._store.facts(ids[start : start + LISTED]).values()
            found += tuple(each for each in some if token is None or each.accepted.order.token == token)
        return self._described(found[:limit])

    def open_of(self, token: str) -> int:
        """Return how many jobs of a token wait or run."""
        facts = self._store.facts(self.folders.open_ids()).values()
        return sum(each.accepted.order.token == token and each.end is None for each in facts)

    def counts(self) -> dict[str, int]:
        """Return how many jobs wait and how many run, for metrics."""
        states = [state_of(each) for each in self._store.facts(self.folders.open_ids()).values()]
        return {"queued": states.count("queued"), "running": states.count("running")}

    def check_workers(self) -> None:
        """Refuse to be called ready while nobody scores.

        Raises
        ------
        RuntimeUnavailableError
            No worker lives, or none has started yet.
        """
        if not is_heard(self.folders.work_bells):
            raise RuntimeUnavailableError("a service without a worker", "one that scores", "see its log, or wait")

    def cancel(self, job_id: str) -> Job:
        """Cancel a job: one that waits at once, one that runs within the grace; one that has ended stays as it is.

        Raises
        ------
        NotFoundError
            There is none of this id.
        """
        self.get(job_id)
        self._store.ask_cancel(job_id)
        lease = self.folders.hold(job_id)
        if lease is None:
            ring(self.folders.work_bells, job_id)
            return self.get(job_id)
        self._store.end(job_id, End(state="cancelled", ended=now()))
        self.folders.clear(job_id)
        lease.end()
        ring(self.folders.ended_bells, job_id)
        return self.get(job_id)

    async def wait(self, job_id: str, timeout_s: float) -> Job:
        """Return a job once it is over, or as it is when the time has run out.

        Raises
        ------
        NotFoundError
            There is none of this id.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        with self._listener.waiting(job_id) as rung:
            while True:
                rung.clear()
                job = await asyncio.to_thread(self.get, job_id)
                left = until - loop.time()
                if job.is_over or left <= 0:
                    return job
                try:
                    await asyncio.wait_for(rung.wait(), min(left, LOOK_S))
                except TimeoutError:
                    continue

    def on_end(self, told: Callable[[Job], None]) -> None:
        """Have a function called, in a thread of its own, with every job that ends while this process lives."""

        def look(job_id: str) -> None:
            try:
                job = self.get(job_id)
            except NotFoundError:
                return
            if job.is_over:
                told(job)

        self._listener.tell(look)

    def close(self) -> None:
        """Stop listening and let go of the store; jobs go on."""
        self._listener.close()
        self._store.close()

    def __enter__(self) -> Self:
        """Return the jobs, to be closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _described(self, several: Sequence[Facts]) -> tuple[Job, ...]:
        """Return jobs; the queue is looked at only when one of them waits."""
        waits = any(state_of(facts) == "queued" for facts in several)
        queue = self._queue() if waits else None
        return tuple(describe(facts, queue) for facts in several)

    def _queue(self) -> Queue:
        known = self._store.facts(self.folders.open_ids())
        queued = [known[job_id] for job_id in self._store.queued() if job_id in known]
        return Queue(
            waiting=[each for each in queued if state_of(each) == "queued"],
            running=[each for each in known.values() if state_of(each) == "running"],
            paces=self._store.paces({each.accepted.order.hazard for each in known.values()}),
            workers=self._settings.workers,
        )

    def _retry_after_s(self) -> int:
        """Return when the first of the jobs may have ended."""
        least, most = RETRY_S
        return max(least, min(most, round(self._queue().first_end_s() or 5 * least)))


def _relative(value: Any, folder: str) -> Any:  # noqa: ANN401 - a field of an input, or several
    """Return a field with the job's folder taken off its file names: results and errors repeat them."""
    if isinstance(value, str):
        return value.replace(folder, "")
    if isinstance(value, list | tuple):
        return type(value)(_relative(each, folder) for each in value)
    return value


def _full(error: OSError) -> StorageFullError:
    return StorageFullError(f"a job ({error.strerror})", "room to write it down", "come back later")
