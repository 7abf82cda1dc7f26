"""What is done about open jobs that nobody works on, about those that go on too long, and about those long over."""

import logging
import time
from dataclasses import dataclass, field
from typing import Final

from serving.jobs.attempt import failed, over_time
from serving.jobs.bell import ring
from serving.jobs.folders import Folders, Lease
from serving.jobs.job import End, age_s, now
from serving.jobs.store import Facts, JobStore
from serving.settings import ServiceSettings

UNACCEPTED_S: Final = 60.0
"""After so long an open file without a record is what a killed submit left."""
UPLOAD_S: Final = 3600.0
"""After so long a folder without a record is what a killed upload left."""
EXPIRY_S: Final = 60.0
"""How often jobs that are over are looked at."""

_log = logging.getLogger(__name__)


@dataclass
class Sweep:
    """Looks at every open job, again and again.

    Attributes
    ----------
    settings : ServiceSettings
        Of the service.
    folders : Folders
        Of the service.
    store : JobStore
        Of the service.
    """

    settings: ServiceSettings
    folders: Folders
    store: JobStore
    _asked: dict[str, float] = field(default_factory=dict, init=False)
    _expired: float = field(default=0.0, init=False)

    def sweep(self) -> frozenset[int]:
        """Take up what nobody works on, and return the processes that must be killed."""
        queued = set(self.store.queued())
        opened = [job_id for job_id in self.folders.open_ids() if job_id not in queued]
        facts = self.store.facts(opened)
        doomed = set()
        for job_id in opened:
            lease = self.folders.hold(job_id)
            if lease is not None:
                self._take_up(job_id, lease)
            elif (known := facts.get(job_id)) is not None and self._must_end(known):
                assert known.run is not None, "a job that takes too long was begun"
                if known.run.worker is not None:
                    doomed.add(known.run.worker)
        self._asked = {job_id: since for job_id, since in self._asked.items() if job_id in opened}
        if time.monotonic() - self._expired >= EXPIRY_S or not self._expired:
            self._expired = time.monotonic()
            self.expire()
        return frozenset(doomed)

    def _take_up(self, job_id: str, lease: Lease) -> None:
        """Decide about a job that no living process works on."""
        try:
            facts = self.store.facts([job_id]).get(job_id)
            if facts is None:
                if self.folders.opened_s(job_id) > UNACCEPTED_S:
                    lease.end()
                return
            end = facts.end or self._end_of(facts)
            if end is not None:
                self.store.end(job_id, end)
                self.folders.clear(job_id)
                lease.end()
                ring(self.folders.ended_bells, job_id)
                return
            self.folders.clear_partial(job_id)
            if facts.run is not None and facts.run.worker is not None:
                _log.warning("job %s: worker %d died; the job waits again", job_id, facts.run.worker)
                self.store.put_run(job_id, facts.run.model_copy(update={"worker": None}))
        finally:
            lease.give_back()
        self.store.enqueue(job_id, facts.accepted.order.priority)
        ring(self.folders.work_bells, job_id)

    def _end_of(self, facts: Facts) -> End | None:
        """Return how a job ends whose process died, None when it is begun again."""
        if facts.cancel_asked:
            return End(state="cancelled", ended=now())
        if facts.run is not None and facts.run.worker is not None and self._over_s(facts) > 0:
            return failed(over_time(self.settings))
        return None

    def _must_end(self, facts: Facts) -> bool:
        """Say whether a process must be killed: it goes on a grace after a cancel, or after its time is over."""
        if facts.run is None or facts.run.worker is None or facts.end is not None:
            return False
        if facts.cancel_asked:
            since = self._asked.setdefault(facts.accepted.order.id, time.monotonic())
            return time.monotonic() - since >= self.settings.cancel_grace_s
        return self._over_s(facts) > self.settings.cancel_grace_s

    def _over_s(self, facts: Facts) -> float:
        """Return by how many seconds an attempt is over its time."""
        assert facts.run is not None, "it was begun"
        return (now() - facts.run.started).total_seconds() - self.settings.job_deadline_s

    def expire(self) -> None:
        """Remove jobs that are over for longer than they are kept, and folders of uploads that became no job."""
        ids = self.folders.ids()
        old = [job_id for job_id in ids if age_s(job_id) > self.settings.job_ttl_s]
        for job_id, facts in self.store.facts(old).items():
            if facts.end is not None and (now() - facts.end.ended).total_seconds() > self.settings.job_ttl_s:
                self.store.forget(job_id)
                self.folders.remove(job_id)
        idle = [job_id for job_id in ids if age_s(job_id) > UPLOAD_S]
        for job_id in set(idle) - self.store.known(idle):
            if not self.folders.is_open(job_id) and self.folders.untouched_s(job_id) > UPLOAD_S:
                self.folders.remove(job_id)
        self.folders.remove_gone()
