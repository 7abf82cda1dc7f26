"""What can pass and is tried again, what never will, and what a dead worker means."""

from dataclasses import dataclass
from typing import Final

from serving.batch.settings import RetrySettings
from tocsin import errors

PASSING: Final = frozenset(
    error.code
    for error in (
        errors.RuntimeUnavailableError,
        errors.DeadlineExceededError,
        errors.QueueFullError,
        errors.StorageFullError,
    )
)
"""Codes of failures that say nothing about the scene: a server, a bucket or room on a disk was away."""
LASTING: Final = frozenset(error.code for error in errors.TocsinError.__subclasses__() if error.exit_code in {2, 3})
"""Codes that the same inputs and options give again, however often they are tried."""
LOST: Final = "worker_lost"
"""Code of a scene whose workers died, one after another."""
INTERNAL: Final = "internal"
"""Code of a failure that no error of ours describes: a defect in tocsin."""


@dataclass(frozen=True, slots=True)
class Attempts:
    """How often a scene was tried, and how often a worker died under it."""

    made: int = 0
    deaths: int = 0

    @property
    def number(self) -> int:
        """Of the attempt that is to come or under way, from 1."""
        return self.made + self.deaths + 1

    def again(self, code: str, settings: RetrySettings) -> "tuple[Attempts, float] | None":
        """Return what to try next and after how many seconds, or None when the scene is given up.

        Parameters
        ----------
        code
            Of the failure.
        settings
            How often.
        """
        if code == LOST:
            tried = Attempts(self.made, self.deaths + 1)
            return (tried, 0.0) if tried.deaths <= settings.handovers else None
        if code in PASSING:
            tried = Attempts(self.made + 1, self.deaths)
            return (tried, settings.delay_s * 4.0**self.made) if tried.made < settings.attempts else None
        return None
