"""Three stages at once: a reader thread, the calling thread, a writer thread, bounded channels between them.

Whatever fails, or whoever presses Ctrl-C, every stage stops at its next hand-over, both threads are joined, and the
first error is raised as it was. There is one condition for all channels and it is never held while a stage works, so no
stage can wait for one that has already gone.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")
Chip = TypeVar("Chip")
Result = TypeVar("Result")


class StoppedError(Exception):
    """Another stage failed; this one has nothing more to do. Never leaves this module."""


class Relay:
    """What the stages share: one condition, the first error, and how many threads have ended."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.error: BaseException | None = None
        self.ended = 0

    def stop(self, error: BaseException) -> None:
        """Note the first error and wake every stage."""
        with self.changed:
            if self.error is None:
                self.error = error
            self.changed.notify_all()


class Channel(Generic[Item]):
    """A bounded queue between two stages that also ends when any stage fails.

    Parameters
    ----------
    relay : Relay
        Shared by all channels of a pipeline.
    capacity : int
        Items that may wait, at least 1.
    """

    def __init__(self, relay: Relay, capacity: int) -> None:
        self._relay = relay
        self._capacity = capacity
        self._items: deque[Item] = deque()
        self._closed = False

    def feed(self, items: Iterable[Item]) -> None:
        """Hand over every item, then close.

        Raises
        ------
        StoppedError
            Another stage failed.
        """
        for item in items:
            with self._relay.changed:
                self._relay.changed.wait_for(lambda: self._relay.error or len(self._items) < self._capacity)
                if self._relay.error is not None:
                    raise StoppedError
                self._items.append(item)
                self._relay.changed.notify_all()
        with self._relay.changed:
            self._closed = True
            self._relay.changed.notify_all()

    def __iter__(self) -> Iterator[Item]:
        """Yield items until the channel is closed and empty; raise `StoppedError` when another stage failed."""
        while True:
            with self._relay.changed:
                self._relay.changed.wait_for(lambda: self._relay.error or self._items or self._closed)
                if self._relay.error is not None:
                    raise StoppedError
                if not self._items:
                    return
                item = self._items.popleft()
                self._relay.changed.notify_all()
            yield item
            del item


def run_pipeline(
    read: Iterable[Chip],
    compute: Callable[[Iterator[Chip]], Iterable[Result]],
    write: Callable[[Iterator[Result]], None],
    *,
    ahead: int = 4,
) -> None:
    """Run ``write(compute(read))`` with reading and writing in threads of their own.

    Parameters
    ----------
    read : iterable
        Drawn in the reader thread.
    compute : callable
        Turns read items into results, in the calling thread.
    write : callable
        Takes the results in the writer thread; what it does not take is dropped.
    ahead : int
        Items that may wait between two stages: it bounds memory.

    Raises
    ------
    BaseException
        The first error of any stage, KeyboardInterrupt included, after both threads have ended.
    """
    relay = Relay()
    chips: Channel[Chip] = Channel(relay, ahead)
    results: Channel[Result] = Channel(relay, ahead)

    def write_all() -> None:
        waiting = iter(results)
        write(waiting)
        for _ in waiting:
            pass

    threads = [
        threading.Thread(target=_run_stage, args=(relay, lambda: chips.feed(read)), name="tocsin-reader"),
        threading.Thread(target=_run_stage, args=(relay, write_all), name="tocsin-writer"),
    ]
    try:
        for thread in threads:
            thread.start()
        _guarded(relay, lambda: results.feed(compute(iter(chips))))
    except BaseException as error:  # noqa: BLE001 - an interrupt between the lines above; raised after the threads' end
        relay.stop(error)
    _wait_for_end([thread for thread in threads if thread.ident is not None], relay)
    if relay.error is not None:
        raise relay.error


def _guarded(relay: Relay, work: Callable[[], None]) -> None:
    try:
        work()
    except StoppedError:
        pass
    except BaseException as error:  # noqa: BLE001 - carried to the calling thread and raised there as it is
        relay.stop(error)


def _run_stage(relay: Relay, work: Callable[[], None]) -> None:
    _guarded(relay, work)
    with relay.changed:
        relay.ended += 1
        relay.changed.notify_all()


def _wait_for_end(threads: list[threading.Thread], relay: Relay) -> None:
    """Wait for the threads; an interrupt stops them and the wait goes on, so that none outlives the pipeline.

    Not by `Thread.join` alone: an interrupt in there marks a running thread as ended (Python 3.11, gh-90882).
    """
    while True:
        try:
            with relay.changed:
                relay.changed.wait_for(lambda: relay.ended == len(threads))
            for thread in threads:
                thread.join()
        except KeyboardInterrupt as error:
            relay.stop(error)
        else:
            return
