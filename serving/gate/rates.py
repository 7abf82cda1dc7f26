"""How often one bearer may ask: a bucket that fills with time."""

import time
from collections.abc import Callable
from typing import Final

from tocsin.errors import QuotaExceededError

MINUTE_S: Final = 60.0
MOST_BEARERS: Final = 10_000
"""Buckets that are kept; full ones are forgotten first, which changes nothing."""


class TooOftenError(QuotaExceededError):
    """More requests than one token may make.

    Attributes
    ----------
    retry_after_s : float
        When the next one may come.
    """

    def __init__(self, per_minute: int, retry_after_s: float) -> None:
        super().__init__(
            f"more than {per_minute} requests a minute",
            f"at most {per_minute}",
            "wait as Retry-After says, and ask for a job less often",
        )
        self.retry_after_s = retry_after_s


class Rates:
    """Counts requests by name, at most so many a minute, in bursts of at most a minute's worth.

    Parameters
    ----------
    clock
        Seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._spent: dict[str, tuple[float, float]] = {}

    def take(self, name: str, per_minute: int) -> float:
        """Count one request.

        Returns
        -------
        float
            0 when it may go on, else the seconds after which the next one may.
        """
        now = self._clock()
        spent, at = self._spent.get(name, (0.0, now))
        spent = max(0.0, spent - (now - at) * per_minute / MINUTE_S)
        if spent + 1 > per_minute:
            self._spent[name] = spent, now
            return (spent + 1 - per_minute) * MINUTE_S / per_minute
        self._spent[name] = spent + 1, now
        if len(self._spent) > MOST_BEARERS:
            self._forget(now)
        return 0.0

    def _forget(self, now: float) -> None:
        """Drop buckets that nobody touched for a minute: they are full again."""
        self._spent = {name: (spent, at) for name, (spent, at) in self._spent.items() if now - at < MINUTE_S}
