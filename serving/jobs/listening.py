"""Ends of jobs, as they are rung: to coroutines that wait for one, and to whoever wants to hear of all."""

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from serving.jobs.bell import Bell

_WAKE_S: Final = 0.5
"""How long a close may take to be seen."""
QUIET_S: Final = 0.05
"""Those who hear of all are told once nobody rang for so long: who waits for one job is answered before."""
MOST: Final = 100
"""Or once so many have rung."""

Told = Callable[[str], None]


class Listener:
    """One thread that listens for every event loop of the process.

    Parameters
    ----------
    folder
        Of the bells that workers ring.
    """

    def __init__(self, folder: Path) -> None:
        self._bell = Bell(folder)
        self._lock = threading.Lock()
        self._waiting: dict[str, list[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = defaultdict(list)
        self._told: list[Told] = []
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="jobs-listener", daemon=True)
        self._thread.start()

    def tell(self, told: Told) -> None:
        """Have a function called, in the listener's thread, with the id of every job that rings."""
        self._told.append(told)

    @contextmanager
    def waiting(self, job_id: str) -> Generator[asyncio.Event]:
        """Lend an event that is set when a job rings; in a coroutine."""
        mine = asyncio.get_running_loop(), asyncio.Event()
        with self._lock:
            self._waiting[job_id].append(mine)
        try:
            yield mine[1]
        finally:
            with self._lock:
                self._waiting[job_id].remove(mine)
                if not self._waiting[job_id]:
                    del self._waiting[job_id]

    def close(self) -> None:
        """Stop listening."""
        self._closed.set()
        self._thread.join()
        self._bell.close()

    def _listen(self) -> None:
        to_tell: dict[str, None] = {}
        while not self._closed.is_set():
            rang = dict.fromkeys(self._bell.listen(QUIET_S if to_tell else _WAKE_S))
            for job_id in rang:
                with self._lock:
                    for loop, event in self._waiting.get(job_id, ()):
                        if not loop.is_closed():
                            loop.call_soon_threadsafe(event.set)
            to_tell |= rang
            if not rang or len(to_tell) > MOST:
                for job_id in to_tell:
                    for told in self._told:
                        told(job_id)
                to_tell.clear()
