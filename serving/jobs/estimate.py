"""What is said of a job at a moment: its state out of the facts, its place in the queue, and when it may end."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from serving.jobs.job import Job, NewJob, State, now
from serving.jobs.store import Facts


@dataclass(frozen=True)
class Queue:
    """Jobs that have not ended, and what a window takes.

    Attributes
    ----------
    waiting : sequence of Facts
        The next one first.
    running : sequence of Facts
        Those that a worker holds.
    paces : mapping of str to float
        Seconds of a window by hazard, where known.
    workers : int
        Scenes that are scored at a time.
    """

    waiting: Sequence[Facts]
    running: Sequence[Facts]
    paces: Mapping[str, float]
    workers: int

    def place(self, job_id: str) -> int | None:
        """Return the place of a job that waits, 1 for the next one."""
        ids = [facts.accepted.order.id for facts in self.waiting]
        return ids.index(job_id) + 1 if job_id in ids else None

    def wait_s(self, place: int) -> float | None:
        """Return the seconds until the job at a place begins, None when it is not known of every job before."""
        before = _sum(self._work_s(facts.accepted.order) for facts in self.waiting[: place - 1])
        running = _sum(remaining_s(facts) for facts in self.running)
        return None if before is None or running is None else (before + running) / self.workers

    def end_s(self, facts: Facts, place: int) -> float | None:
        """Return the seconds until a job that waits has ended."""
        return _sum([self.wait_s(place), self._work_s(facts.accepted.order)])

    def first_end_s(self) -> float | None:
        """Return the seconds until a job has ended, whichever it is; None when nobody can say."""
        known = [left for facts in self.running if (left := remaining_s(facts)) is not None]
        return min(known, default=None)

    def _work_s(self, order: NewJob) -> float | None:
        pace = self.paces.get(order.hazard)
        return None if pace is None or order.windows is None else pace * order.windows


def remaining_s(facts: Facts) -> float | None:
    """Return the seconds that a job which runs still needs, None before its first window."""
    run = facts.run
    if run is None or run.progress == 0:
        return None
    elapsed = (now() - run.started).total_seconds()
    return max(elapsed * (1 / run.progress - 1), 0.0)


def state_of(facts: Facts) -> State:
    """Return the state of a job."""
    if facts.end is not None:
        return facts.end.state
    return "running" if facts.run is not None and facts.run.worker is not None else "queued"


def describe(facts: Facts, queue: Queue | None) -> Job:
    """Return a job as its facts say; `queue` is needed only while it waits."""
    order, run, end = facts.accepted.order, facts.run, facts.end
    state = state_of(facts)
    place = queue.place(order.id) if queue is not None and state == "queued" else None
    eta: float | None = None
    if state == "running":
        eta = remaining_s(facts)
    elif queue is not None and place is not None:
        eta = queue.end_s(facts, place)
    return Job(
        **order.model_dump(
            include={"id", "token", "hazard", "inputs", "idempotency_key", "webhook", "request_id"}, mode="python"
        ),
        options=order.options,
        state=state,
        progress=1.0 if state == "done" else run.progress if run is not None and state != "queued" else 0.0,
        queue_place=place,
        eta_s=None if eta is None else round(eta, 1),
        attempt=run.attempt if run is not None else 0,
        error=end.error if end is not None else None,
        created=facts.accepted.created,
        started=run.started if run is not None and state != "queued" else None,
        ended=end.ended if end is not None else None,
        result=end.result if end is not None else None,
    )


def _sum(parts: Iterable[float | None]) -> float | None:
    """Add up, None when one is not known."""
    total = 0.0
    for part in parts:
        if part is None:
            return None
        total += part
    return total
