"""Whether the service can score: every check is really made, in a thread of its own, and its answer kept for seconds.

A process that answers HTTP proves nothing about what is behind it. So /readyz asks for a judged chip; what is slow to
answer delays nobody: a probe waits `PATIENCE_S` for a new verdict, else it is told the last one, which is never older
than `oldest_s`. A check that hangs is not started again before it ends, and the service is not ready meanwhile.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Final

from serving.observability.metrics import Metrics
from tocsin.errors import DeadlineExceededError, RuntimeUnavailableError, TocsinError

PATIENCE_S: Final = 0.1
"""How long a probe waits for a new verdict while an older one holds."""

Check = Callable[[], None]
"""Returns when all is well, raises a `TocsinError` when it is not."""

logger = logging.getLogger("tocsin.service.readiness")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the checks found.

    Attributes
    ----------
    errors : mapping of str to TocsinError
        What is wrong, by name of the check; empty: ready.
    at_s : float
        When it was found, on the monotonic clock.
    """

    errors: Mapping[str, TocsinError]
    at_s: float = field(default_factory=monotonic)

    @property
    def ready(self) -> bool:
        """Whether every check passed."""
        return not self.errors


class Readiness:
    """Makes checks when somebody asks, and remembers what they found.

    Parameters
    ----------
    checks
        By name; each in a thread of its own, so that one that hangs hides no other.
    timeout_s
        How long a check may take.
    fresh_s
        How long a verdict is told without another check.
    metrics
        Told of every verdict.

    Attributes
    ----------
    oldest_s : float
        How old a verdict may be at most when it is told: three times `fresh_s`.
    """

    def __init__(
        self,
        checks: Mapping[str, Check],
        *,
        timeout_s: float = 5.0,
        fresh_s: float = 5.0,
        metrics: Metrics | None = None,
    ) -> None:
        self.timeout_s, self.fresh_s, self.oldest_s = timeout_s, fresh_s, 3 * fresh_s
        self._checks, self._metrics = dict(checks), metrics
        # One thread more than checks: who waits for them never waits for a thread.
        self._pool = ThreadPoolExecutor(len(self._checks) + 1, thread_name_prefix="tocsin-check")
        self._pending: dict[str, Future[None]] = {}
        self._renewal: asyncio.Task[Verdict] | None = None
        self._last: Verdict | None = None

    async def verdict(self) -> Verdict:
        """Return what the checks found, at most `oldest_s` ago; never raises."""
        last = self._last
        age_s = monotonic() - last.at_s if last else float("inf")
        if last is not None and age_s < self.fresh_s:
            return last
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.create_task(self._renew())
        # A probe that leaves while it waits does not end the renewal: others may wait for it.
        await asyncio.wait({self._renewal}, timeout=PATIENCE_S if age_s < self.oldest_s - PATIENCE_S else None)
        return self._renewal.result() if last is None or self._renewal.done() else last

    def close(self) -> None:
        """Start no further check; one that hangs is left to itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _renew(self) -> Verdict:
        """Make every check once; never raises, and takes `timeout_s` at most."""
        started = monotonic()
        for name, check in self._checks.items():
            if name not in self._pending or self._pending[name].done():
                self._pending[name] = self._pool.submit(self._timed, name, check)
        pending = dict(self._pending)
        loop = asyncio.get_running_loop()
        done, _ = await loop.run_in_executor(self._pool, partial(wait, pending.values(), self.timeout_s))
        found = {
            name: _trouble(future, name) if future in done else _too_slow(name, self.timeout_s)
            for name, future in pending.items()
        }
        verdict = Verdict({name: error for name, error in found.items() if error is not None}, started)
        self._tell(verdict)
        self._last = verdict
        return verdict

    def _timed(self, name: str, check: Check) -> None:
        started = monotonic()
        try:
            check()
        finally:
            if self._metrics is not None:
                self._metrics.check_seconds.labels(name).set(monotonic() - started)

    def _tell(self, verdict: Verdict) -> None:
        """Count the verdict, and log it when it is another one than before."""
        if self._metrics is not None:
            self._metrics.ready.set(verdict.ready)
        before = {} if self._last is None else self._last.errors
        for name, error in verdict.errors.items():
            if name not in before:
                logger.error("not ready", extra={"check": name, "code": error.code, "error": str(error)})
        if before and verdict.ready:
            logger.info("ready again")


def _trouble(future: Future[None], name: str) -> TocsinError | None:
    """Return what a check that ended raised; what is no error of ours is told as a runtime that fails."""
    error = future.exception()
    if error is None or isinstance(error, TocsinError):
        return error
    return RuntimeUnavailableError(
        f"check {name}, which failed with {type(error).__name__}: {error}", "no failure", "see the log"
    )


def _too_slow(name: str, timeout_s: float) -> TocsinError:
    return DeadlineExceededError(
        f"check {name}, which did not end", f"an answer within {timeout_s:g} s", "look at the runtime behind it"
    )
