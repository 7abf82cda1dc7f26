"""Three stages at once: order kept, memory bounded, the first error raised, nobody left waiting."""

import os
import signal
import threading
import time

import pytest

from tocsin.errors import RuntimeUnavailableError, StorageFullError, TruncatedError
from tocsin.pipeline import run_pipeline

PATIENCE_S = 20


@pytest.fixture(autouse=True)
def no_thread_is_left():
    """Every test ends in time and leaves no thread of the pipeline behind."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < PATIENCE_S
    names = {thread.name for thread in threading.enumerate()}
    assert not names & {"tocsin-reader", "tocsin-writer"}


def double(chips):
    """Compute stage that yields every second item doubled."""
    for chip in chips:
        if chip % 2:
            yield 2 * chip


def test_everything_arrives_in_order():
    """The writer gets what the computation made of what was read, in order."""
    written = []
    run_pipeline(range(1000), double, written.extend)
    assert written == [2 * number for number in range(1000) if number % 2]


def test_stages_have_their_own_threads():
    """Reading and writing happen beside the calling thread."""
    names = {}

    def read():
        names["read"] = threading.current_thread().name
        yield 1

    def compute(chips):
        names["compute"] = threading.current_thread()
        yield from chips

    def write(strips):
        names["write"] = threading.current_thread().name
        list(strips)

    run_pipeline(read(), compute, write)
    assert names == {"read": "tocsin-reader", "compute": threading.current_thread(), "write": "tocsin-writer"}


def test_reading_ahead_is_bounded():
    """The reader stays at most `ahead` items (and the one in hand) before the computation."""
    read_so_far = []

    def read():
        for number in range(50):
            read_so_far.append(number)
            yield number

    def compute(chips):
        for chip in chips:
            time.sleep(0.002)
            assert len(read_so_far) <= chip + 1 + 3 + 1
            yield chip

    run_pipeline(read(), compute, list, ahead=3)
    assert len(read_so_far) == 50


def failing_at(number, error, items):
    """Pass items on until one fails."""
    for item in items:
        if item == number:
            raise error
        yield item


@pytest.mark.parametrize("number", [0, 1, 7, 499])
@pytest.mark.parametrize("stage", ["read", "compute", "write"])
def test_first_error_is_raised_as_it_was(stage, number):
    """Whichever stage fails, early or late, the caller gets that very error and all stages end."""
    errors = {
        "read": TruncatedError("a", "b", "c"),
        "compute": RuntimeUnavailableError("a", "b", "c"),
        "write": StorageFullError("a", "b", "c"),
    }

    def stage_of(name, items):
        return failing_at(number, errors[name], items) if name == stage else iter(items)

    with pytest.raises(type(errors[stage])) as caught:
        run_pipeline(
            stage_of("read", range(500)),
            lambda chips: stage_of("compute", chips),
            lambda strips: list(stage_of("write", strips)),
        )
    assert caught.value is errors[stage]


def test_failing_to_start_a_stage_is_an_error():
    """A writer that fails before it takes anything stops a reader that waits for room."""

    def write(strips):
        raise StorageFullError("a", "b", "c")

    with pytest.raises(StorageFullError):
        run_pipeline(range(10**6), iter, write)


def test_writer_may_leave_early():
    """A writer that takes only some strips ends the run without an error and without a wait."""
    taken = []
    run_pipeline(range(100), iter, lambda strips: taken.append(next(strips)))
    assert taken == [0]


def test_interrupt_while_computing():
    """Ctrl-C in the calling thread is raised after both threads have ended."""

    def compute(chips):
        for chip in chips:
            if chip == 3:
                signal.raise_signal(signal.SIGINT)
            yield chip

    with pytest.raises(KeyboardInterrupt):
        run_pipeline(range(10**6), compute, list)


@pytest.mark.parametrize("waiting_for", ["reader", "writer"])
def test_interrupt_while_waiting(waiting_for):
    """Ctrl-C reaches the calling thread also while it waits for another stage."""
    release = threading.Event()

    def slow(items):
        for item in items:
            if item == 2:
                threading.Timer(0.2, release.set).start()
                os.kill(os.getpid(), signal.SIGINT)
                release.wait(5)
            yield item

    stages = {
        "reader": (slow(range(5)), iter, list),
        "writer": (range(5), iter, lambda strips: list(slow(strips))),
    }
    with pytest.raises(KeyboardInterrupt):
        run_pipeline(*stages[waiting_for])
