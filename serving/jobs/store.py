"""The job store: a queue and facts about jobs, in SQLite, Redis or PostgreSQL, through the storages of huey.

huey's own workers forget a task at the moment they take it, so that a killed one loses it. Only its storages are used:
an ordered queue, facts by key, a fact that is written once (`put_if_empty`), counters. All that is said of a job
is put together from facts with one writer each (see `serving.jobs.job`), so nothing needs a transaction over several.
"""

import errno
import hashlib
import logging
import sqlite3
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from huey.constants import EmptyData
from huey.storage import BaseStorage, PostgresStorage, PriorityRedisStorage, SqliteStorage
from pydantic import BaseModel, ConfigDict, ValidationError

from serving.jobs.job import Accepted, End, Run
from serving.settings import ServiceSettings
from tocsin.errors import RuntimeUnavailableError, StorageFullError, UsageError

_log = logging.getLogger(__name__)

Fact = TypeVar("Fact", bound=BaseModel)

NAME: Final = "tocsin"
BUSY_S: Final = 30
"""How long a writer waits for another one."""
SQLITE: Final = "service.db"
"""Name of the store in the state folder, where no URL is given."""
NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def store_url(settings: ServiceSettings) -> str:
    """Return where the job store is."""
    return settings.job_store or f"sqlite:///{settings.state.absolute() / SQLITE}"


class Facts(BaseModel):
    """All that the store holds of one job."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    accepted: Accepted
    run: Run | None = None
    cancel_asked: bool = False
    end: End | None = None


class _Connection(sqlite3.Connection):
    """A connection whose commits outlive every process; the last ones may be lost with the power, never the file."""

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - handed on
        super().__init__(*arguments, **named)
        self.execute("pragma synchronous=normal")


class JobStore:
    """Queue and facts.

    Parameters
    ----------
    url
        ``sqlite:///PATH``, ``redis://...``, ``rediss://...`` or ``postgresql://...``.

    Raises
    ------
    UsageError
        No such store.
    RuntimeUnavailableError
        The store does not answer.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        scheme, _, rest = url.partition("://")
        self._failures: tuple[type[Exception], ...] = (OSError, *_errors_of(scheme))
        with self._told():
            self._storage = _open(scheme, url, rest)
            # Redis is not spoken to before the first question.
            self._storage.queue_size()

    @contextmanager
    def _told(self) -> Generator[None]:
        """Say in our own words what a store could not do."""
        try:
            yield
        except self._failures as error:
            where = self._url.rpartition("@")[2]
            if getattr(error, "errno", None) in NO_ROOM or any(
                said in str(error) for said in ("disk is full", "No space left")
            ):
                raise StorageFullError(
                    f"the job store {where} ({error})", "room for a record", "free some space"
                ) from error
            raise RuntimeUnavailableError(
                f"the job store {where} ({error})", "a store that answers", "see that it runs, and try again"
            ) from error

    def accept(self, accepted: Accepted) -> None:
        """Write down a job, once, and put it into the queue."""
        order = accepted.order
        self._put_once(f"job:{order.id}", accepted)
        if order.idempotency_key is not None:
            self._put(_key_of(order.token, order.idempotency_key), order.id.encode())
        self.enqueue(order.id, order.priority)

    def enqueue(self, job_id: str, priority: int) -> None:
        """Put a job into the queue; one that is there twice is still run once."""
        with self._told():
            self._storage.enqueue(job_id.encode(), priority)

    def take(self) -> str | None:
        """Take the next job out of the queue, None when it is empty."""
        with self._told():
            found = self._storage.dequeue()
        return None if found is None else bytes(found).decode()

    def queued(self) -> list[str]:
        """Return the ids in the queue, the next one first, each once."""
        with self._told():
            return list(dict.fromkeys(bytes(each).decode() for each in self._storage.enqueued_items()))

    def named(self, token: str, idempotency_key: str) -> str | None:
        """Return the job that a token submitted under a key."""
        with self._told():
            found = self._storage.peek_data(_key_of(token, idempotency_key))
        return None if found is EmptyData else bytes(found).decode()

    def facts(self, ids: Sequence[str]) -> dict[str, Facts]:
        """Return what is known of jobs, by id, in their order; unknown ones are left out."""
        with self._told():
            found = self._peek_many([f"{kind}:{job_id}" for job_id in ids for kind in ("job", "run", "cancel", "end")])
        read: dict[str, Facts] = {}
        for job_id in ids:
            if f"job:{job_id}" not in found:
                continue
            try:
                read[job_id] = Facts(
                    accepted=Accepted.model_validate_json(found[f"job:{job_id}"]),
                    run=_read(Run, found.get(f"run:{job_id}")),
                    cancel_asked=f"cancel:{job_id}" in found,
                    end=_read(End, found.get(f"end:{job_id}")),
                )
            except ValidationError as error:
                # Of another version of the service: it must not keep the jobs of this one from being seen.
                _log.error("the record of job %s cannot be read: %s", job_id, error)
        return read

    def known(self, ids: Sequence[str]) -> set[str]:
        """Return which of some jobs there are."""
        with self._told():
            return {key.removeprefix("job:") for key in self._peek_many([f"job:{job_id}" for job_id in ids])}

    def begin(self, job_id: str) -> int:
        """Count an attempt, and return how many there were."""
        with self._told():
            return int(self._storage.incr(f"attempts:{job_id}"))

    def take_back(self, job_id: str) -> None:
        """Do not count an attempt that the service itself stopped."""
        with self._told():
            self._storage.incr(f"attempts:{job_id}", -1)

    def put_run(self, job_id: str, run: Run) -> None:
        """Write down how far the worker is that holds a job."""
        self._put(f"run:{job_id}", run.model_dump_json().encode())

    def ask_cancel(self, job_id: str) -> None:
        """Write down that a job is to be cancelled."""
        self._put(f"cancel:{job_id}", b"1")

    def cancel_asked(self, job_id: str) -> bool:
        """Say whether a job is to be cancelled."""
        with self._told():
            return bool(self._storage.has_data_for_key(f"cancel:{job_id}"))

    def end(self, job_id: str, end: End) -> bool:
        """Write down how a job ended, and say whether it had not ended before."""
        return self._put_once(f"end:{job_id}", end)

    def put_pace(self, hazard: str, seconds: float) -> None:
        """Write down what a window of a hazard takes."""
        self._put(f"pace:{hazard}", f"{seconds:.6g}".encode())

    def paces(self, hazards: Iterable[str]) -> dict[str, float]:
        """Return the seconds of a window by hazard, where they are known."""
        with self._told():
            found = self._peek_many([f"pace:{hazard}" for hazard in hazards])
        return {key.removeprefix("pace:"): float(value) for key, value in found.items()}

    def forget(self, job_id: str) -> None:
        """Remove everything about a job."""
        known = self.facts([job_id]).get(job_id)
        order = known.accepted.order if known else None
        with self._told():
            if order is not None and order.idempotency_key is not None:
                self._storage.delete_data(_key_of(order.token, order.idempotency_key))
            # The record goes last: what is interrupted here is found and forgotten again.
            for kind in ("run", "cancel", "end", "job"):
                self._storage.delete_data(f"{kind}:{job_id}")
            self._storage.delete_counter(f"attempts:{job_id}")

    def close(self) -> None:
        """Close the connection; calling it again does nothing."""
        self._storage.close()

    def _peek_many(self, keys: list[str]) -> dict[str, bytes]:
        """Return values by key, a few hundred keys a question."""
        found: dict[str, bytes] = {}
        for start in range(0, len(keys), 400):
            found |= {key: bytes(value) for key, value in self._storage.peek_many(keys[start : start + 400]).items()}
        return found

    def _put(self, key: str, value: bytes) -> None:
        with self._told():
            self._storage.put_data(key, value)

    def _put_once(self, key: str, value: BaseModel) -> bool:
        with self._told():
            return bool(self._storage.put_if_empty(key, value.model_dump_json().encode()))


def _open(scheme: str, url: str, rest: str) -> BaseStorage:
    if scheme == "sqlite":
        return SqliteStorage(NAME, filename=rest.removeprefix("/"), timeout=BUSY_S, factory=_Connection)
    if scheme in {"redis", "rediss"}:
        return PriorityRedisStorage(NAME, blocking=False, url=url)
    if scheme == "postgresql":
        return PostgresStorage(NAME, dsn=url, blocking=False, table_prefix=NAME)
    raise UsageError(f"a job store of {scheme or url!r}", "sqlite, redis or postgresql", "mend TOCSIN_JOB_STORE")


def _errors_of(scheme: str) -> tuple[type[Exception], ...]:
    """Return the base of the errors of a client."""
    if scheme == "postgresql":
        import psycopg

        return (psycopg.Error,)
    if scheme in {"redis", "rediss"}:
        import redis

        return (redis.RedisError,)
    return (sqlite3.Error,)


def _key_of(token: str, idempotency_key: str) -> str:
    """Return under which key an idempotency key stands: no other token's is the same."""
    return "key:" + hashlib.sha256(f"{token}\0{idempotency_key}".encode()).hexdigest()


def _read(kind: type[Fact], value: bytes | None) -> Fact | None:
    return None if value is None else kind.model_validate_json(value)
