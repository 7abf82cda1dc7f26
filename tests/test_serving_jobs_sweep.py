"""What is done about jobs that nobody works on, that go on too long, or that are long over."""

import os
import time
from datetime import timedelta

import pytest
from job_stand_ins import submit
from stand_ins import make_result

from serving.jobs import Jobs, NewJob
from serving.jobs.job import End, Run, new_job_id, now
from serving.jobs.sweep import UNACCEPTED_S, UPLOAD_S, Sweep
from tocsin.errors import NotFoundError


@pytest.fixture
def sweep(job_settings, job_folders, job_store):
    """Return a function that makes a sweeper with changed settings."""
    return lambda **changes: Sweep(job_settings.model_copy(update=changes), job_folders, job_store)


def begun(jobs, job_store, **named):
    """Submit a job and let a worker take it; who holds its lease says whether that worker lives."""
    job = submit(jobs)
    assert job_store.take() == job.id
    job_store.put_run(job.id, Run(**{"attempt": job_store.begin(job.id), "started": now(), "worker": 123} | named))
    return job


def make_older(path, seconds):
    """Set back the times of a file or folder."""
    os.utime(path, (time.time() - seconds,) * 2)


def test_a_job_whose_worker_died_waits_again(jobs, job_store, job_folders, sweep):
    """It is put back into the queue once, and what the attempt left is removed."""
    job = begun(jobs, job_store)
    job_folders.partial(job.id, 1).mkdir()
    sweeper = sweep()
    assert sweeper.sweep() == frozenset()
    sweeper.sweep()
    assert job_store.queued() == [job.id]
    assert (jobs.get(job.id).state, jobs.get(job.id).queue_place) == ("queued", 1)
    assert not job_folders.partial(job.id, 1).exists()


def test_a_job_that_was_taken_but_not_begun_waits_again(jobs, job_store, sweep):
    """A worker that died between queue and lease loses nothing."""
    job = submit(jobs)
    job_store.take()
    sweep().sweep()
    assert job_store.queued() == [job.id]


def test_a_job_that_is_worked_on_is_left_alone(jobs, job_store, job_folders, sweep):
    """However long ago its worker wrote anything: it lives, so the job is its own."""
    job = begun(jobs, job_store, started=now() - timedelta(seconds=3000))
    lease = job_folders.hold(job.id)
    assert sweep().sweep() == frozenset()
    assert job_store.queued() == []
    assert jobs.get(job.id).state == "running"
    lease.give_back()


def test_a_worker_that_ignores_a_cancel_is_killed_after_the_grace(jobs, job_store, job_folders, sweep):
    """It has its grace, then it is named; once it is dead the job is cancelled, not begun again."""
    job = begun(jobs, job_store)
    lease = job_folders.hold(job.id)
    jobs.cancel(job.id)
    assert sweep(cancel_grace_s=1000).sweep() == frozenset()
    sweeper = sweep(cancel_grace_s=0)
    assert sweeper.sweep() == {123}
    lease.give_back()
    assert sweeper.sweep() == frozenset()
    assert jobs.get(job.id).state == "cancelled"
    assert not (job_folders.job(job.id) / "in").exists()


def test_a_worker_over_its_time_is_killed(jobs, job_store, job_folders, sweep):
    """After deadline and grace; once it is dead the job has failed with that reason."""
    job = begun(jobs, job_store, started=now() - timedelta(seconds=60))
    lease = job_folders.hold(job.id)
    assert sweep(job_deadline_s=59.5, cancel_grace_s=1000).sweep() == frozenset()
    sweeper = sweep(job_deadline_s=50, cancel_grace_s=5)
    assert sweeper.sweep() == {123}
    lease.give_back()
    sweeper.sweep()
    assert jobs.get(job.id).error.code == "deadline_exceeded"


def test_an_end_that_was_written_is_completed(jobs, job_store, job_folders, sweep):
    """A worker that died right after it wrote the end leaves a job that is over, and no longer open."""
    job = begun(jobs, job_store)
    job_store.end(job.id, End(state="done", ended=now(), result=make_result()))
    sweep().sweep()
    assert job_folders.open_ids() == []
    assert jobs.get(job.id).state == "done"
    assert not (job_folders.job(job.id) / "in").exists()


def test_a_submit_that_was_killed_leaves_no_place_taken(job_folders, sweep):
    """A place in the queue without a record is given free after a minute, not before."""
    job_id = new_job_id()
    job_folders.open_one(job_id)
    sweep().sweep()
    assert job_folders.open_ids() == [job_id]
    make_older(job_folders.open / job_id, UNACCEPTED_S + 1)
    sweep().sweep()
    assert job_folders.open_ids() == []


def test_jobs_over_for_long_are_forgotten(jobs, job_store, job_folders, sweep, monkeypatch):
    """After their time to live record, key and products are gone; younger and open ones stay."""
    old, young, waits = (submit(jobs, idempotency_key=key) for key in "abc")
    for job, ended in ((old, now() - timedelta(seconds=100)), (young, now())):
        job_store.end(job.id, End(state="done", ended=ended, result=make_result()))
        job_folders.close_one(job.id)
    monkeypatch.setattr("serving.jobs.sweep.age_s", lambda _: 1000.0)
    sweep(job_ttl_s=50).sweep()
    with pytest.raises(NotFoundError):
        jobs.get(old.id)
    assert not job_folders.job(old.id).exists()
    assert jobs.find("desk", "a") is None
    assert {job.id for job in jobs.list()} == {waits.id, young.id}


def test_uploads_that_became_no_job_are_removed(job_folders, sweep):
    """A folder without a record goes an hour after it was last written to."""
    abandoned, fresh = (f"{1:012x}-{k:020x}" for k in range(2))
    for job_id in (abandoned, fresh):
        job_folders.make(job_id)
    for path in (job_folders.job(abandoned) / "in", job_folders.job(abandoned)):
        make_older(path, UPLOAD_S + 60)
    (job_folders.state / ".gone-x").mkdir()
    sweep().sweep()
    assert job_folders.ids() == [fresh]
    assert not (job_folders.state / ".gone-x").exists()


def test_a_record_without_a_queue_entry_is_found(job_settings, job_store, sweep, monkeypatch):
    """A process that was killed in the middle of a submit leaves a job that still runs."""
    with Jobs(job_settings) as jobs:
        monkeypatch.setattr(jobs._store, "enqueue", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        new = NewJob(token="desk", hazard="flood", inputs={})
        with pytest.raises(KeyboardInterrupt):
            jobs.submit(new)
        sweep().sweep()
        assert job_store.queued() == [new.id]
