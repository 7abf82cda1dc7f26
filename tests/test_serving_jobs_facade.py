"""What the API sees of jobs: accepted, found, listed, waited for, cancelled, refused."""

import asyncio
import threading
from datetime import timedelta

import pytest
from job_stand_ins import submit
from stand_ins import make_result

from serving.jobs import JobQueueFullError, Jobs, NewJob, new_job_id
from serving.jobs.bell import ring
from serving.jobs.job import End, Run, now
from tocsin.errors import ForbiddenReferenceError, NotFoundError, StorageFullError, UsageError


def begin(store, job, **named):
    """Write down that a worker is at a job."""
    store.take()
    store.put_run(job.id, Run(**{"attempt": 1, "started": now(), "worker": 1, "done": 0, "total": 4} | named))


def finish(store, folders, job, **named):
    """Write down the end of a job, and tell whoever waits."""
    store.end(job.id, End(**{"state": "done", "ended": now(), "result": make_result()} | named))
    folders.close_one(job.id)
    ring(folders.ended_bells, job.id)


def test_a_submitted_job_waits_and_another_process_sees_it(jobs, job_settings):
    """What was accepted is found with all that was asked, by a second facade over the same state folder."""
    job = submit(jobs, request_id="r1", idempotency_key="k")
    assert (job.state, job.queue_place, job.progress, job.attempt) == ("queued", 1, 0.0, 0)
    with Jobs(job_settings) as other:
        assert other.get(job.id) == job
    assert (job.token, job.request_id, job.inputs) == ("desk", "r1", {"post": "in/scene.tif"})


def test_files_in_the_folder_are_kept_relative(jobs):
    """A result repeats the names of inputs, so that none says where the server keeps them; other paths stay."""
    job_id = new_job_id()
    inside = [f"{jobs.folders.job(job_id)}/in/{name}.tif" for name in "ab"]
    job = submit(
        jobs, id=job_id, hazard="landslide", inputs={"pre": inside, "post": f"{inside[0]};{inside[1]}", "n": 1}
    )
    assert job.inputs == {"pre": ["in/a.tif", "in/b.tif"], "post": "in/a.tif;in/b.tif", "n": 1}
    assert submit(jobs, inputs={"post": "/allowed/a.tif"}).inputs == {"post": "/allowed/a.tif"}


def test_ids_sort_by_time_and_are_not_guessed():
    """A later id is greater, and two of one millisecond differ by chance."""
    ids = [new_job_id() for _ in range(200)]
    assert len(set(ids)) == 200
    assert [each[:12] for each in ids] == sorted(each[:12] for each in ids)


@pytest.mark.parametrize(
    "bad", ["../../etc", "01a1fa640112-74e815d764a98e90d0b", "", "01a1fa640112-74e815d764a98e90d0ba/"]
)
def test_an_id_is_no_path(bad):
    """A job cannot be given an id that names another folder."""
    with pytest.raises(ValueError, match="pattern"):
        NewJob(id=bad, token="desk", hazard="flood", inputs={})


def test_lists_show_the_newest_of_one_token(jobs):
    """A token sees its own jobs only, the newest first, as many as asked for."""
    mine = [submit(jobs).id for _ in range(3)]
    other = submit(jobs, token="other").id
    assert [job.id for job in jobs.list("desk")] == sorted(mine, reverse=True)
    assert [job.id for job in jobs.list("desk", limit=1)] == [max(mine)]
    assert {job.id for job in jobs.list()} == {*mine, other}
    assert (jobs.open_of("desk"), jobs.open_of("nobody")) == (3, 0)


def test_an_unknown_job_is_not_found(jobs):
    """Asking for, cancelling and waiting for a job that never was all say so."""
    with pytest.raises(NotFoundError):
        jobs.get(new_job_id())
    with pytest.raises(NotFoundError):
        jobs.cancel(new_job_id())
    with pytest.raises(NotFoundError):
        asyncio.run(jobs.wait(new_job_id(), 1))


def test_the_queue_has_an_end(job_settings):
    """The job beyond the limit is refused with a time to come back, leaves nothing, and fits once one has ended."""
    with Jobs(job_settings.model_copy(update={"queue_length": 2})) as jobs:
        first, _ = submit(jobs), submit(jobs)
        refused = new_job_id()
        with pytest.raises(JobQueueFullError) as error:
            submit(jobs, id=refused)
        assert 1 <= error.value.retry_after_s <= 300
        assert error.value.code == "queue_full"
        with pytest.raises(NotFoundError):
            jobs.get(refused)
        jobs.cancel(first.id)
        assert submit(jobs).state == "queued"


def test_threads_that_submit_at_once_keep_to_the_limit(job_settings):
    """Of twelve submits at a time exactly as many are accepted as there are places."""
    outcomes = []
    with Jobs(job_settings.model_copy(update={"queue_length": 5})) as jobs:

        def one():
            try:
                outcomes.append(submit(jobs).state)
            except JobQueueFullError:
                outcomes.append("refused")

        threads = [threading.Thread(target=one) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(outcomes) == ["queued"] * 5 + ["refused"] * 7


def test_the_same_key_is_the_same_job(jobs):
    """A repeated request gets the first job, and what it uploaded is removed; another token's key is another one."""
    first = submit(jobs, idempotency_key="k", fingerprint="f")
    again = new_job_id()
    assert submit(jobs, id=again, idempotency_key="k", fingerprint="f").id == first.id
    assert not jobs.folders.job(again).exists()
    assert jobs.find("desk", "k", "f").id == first.id
    assert jobs.find("desk", "other") is None
    assert submit(jobs, token="other", idempotency_key="k", fingerprint="f").id != first.id


def test_a_key_with_another_request_is_refused(jobs):
    """A key that is used twice for different things is a mistake of the client."""
    submit(jobs, idempotency_key="k", fingerprint="f")
    with pytest.raises(UsageError, match="key"):
        submit(jobs, idempotency_key="k", fingerprint="g")


def test_places_follow_priority_and_order(jobs):
    """Urgent jobs go first, and others in the order in which they came."""
    first, second, urgent = submit(jobs), submit(jobs), submit(jobs, priority=5)
    assert [jobs.get(job.id).queue_place for job in (urgent, first, second)] == [1, 2, 3]
    jobs.cancel(first.id)
    assert jobs.get(second.id).queue_place == 2


def test_progress_and_remaining_time_follow_the_windows(jobs, job_store):
    """A job that took a minute for a quarter of its windows needs three more."""
    job = submit(jobs)
    begin(job_store, job, started=now() - timedelta(seconds=60), done=1)
    seen = jobs.get(job.id)
    assert (seen.state, seen.progress, seen.queue_place, seen.attempt) == ("running", 0.25, None, 1)
    assert seen.eta_s == pytest.approx(180, abs=5)
    assert jobs.counts() == {"queued": 0, "running": 1}


def test_a_waiting_job_knows_its_time_where_all_before_it_do(jobs, job_store):
    """Windows ahead, what runs and its own windows add up; one job of unknown size makes the time unknown."""
    running, ahead, mine = submit(jobs), submit(jobs, windows=10), submit(jobs, windows=20)
    begin(job_store, running, started=now() - timedelta(seconds=30), done=2)
    assert jobs.get(mine.id).eta_s is None
    job_store.put_pace("flood", 2.0)
    assert jobs.get(ahead.id).eta_s == pytest.approx(30 + 20, abs=5)
    assert jobs.get(mine.id).eta_s == pytest.approx(30 + 20 + 40, abs=5)
    unknown, last = submit(jobs), submit(jobs, windows=1)
    assert jobs.get(unknown.id).eta_s is jobs.get(last.id).eta_s is None


def test_a_waiting_job_is_cancelled_at_once(jobs, job_folders):
    """It never runs, its upload is removed, and a second cancel changes nothing."""
    job = submit(jobs)
    cancelled = jobs.cancel(job.id)
    assert (cancelled.state, cancelled.error, cancelled.result) == ("cancelled", None, None)
    assert not (job_folders.job(job.id) / "in").exists()
    assert jobs.cancel(job.id) == cancelled
    assert jobs.counts() == {"queued": 0, "running": 0}


def test_what_has_ended_is_not_cancelled(jobs, job_store, job_folders):
    """The first end is the end."""
    job = submit(jobs)
    finish(job_store, job_folders, job)
    assert jobs.cancel(job.id).state == "done"
    assert not job_store.end(job.id, End(state="cancelled", ended=now()))
    assert jobs.get(job.id).result == make_result()


def test_a_wait_ends_when_the_job_does(jobs, job_store, job_folders):
    """Coroutines of two event loops hear of an end that another thread rings, well before they would look again."""
    job = submit(jobs)
    seen = []
    waiting = [
        threading.Thread(target=lambda: seen.append(asyncio.run(jobs.wait(job.id, 100)).state)) for _ in range(2)
    ]
    for thread in waiting:
        thread.start()
    finish(job_store, job_folders, job)
    for thread in waiting:
        thread.join()
    assert seen == ["done", "done"]


def test_a_wait_that_takes_too_long_returns_the_job_as_it_is(jobs):
    """Time runs out for who waits, not for the job."""
    job = submit(jobs)
    assert asyncio.run(jobs.wait(job.id, 0.05)).state == "queued"


def test_ends_are_told_to_who_wants_to_hear_all(jobs, job_store, job_folders):
    """A listener gets every job that ends, as it is then."""
    told, heard = [], threading.Event()
    jobs.on_end(lambda job: (told.append((job.id, job.state)), heard.set()))
    job = submit(jobs)
    finish(job_store, job_folders, job)
    assert heard.wait(60)
    assert told == [(job.id, "done")]


def test_webhooks_go_to_named_hosts_only(job_settings):
    """Another host, a password in the URL and a job_settings without a key are refused before anything is written."""
    key = {"webhook_secret": "0123456789abcdef", "webhook_hosts": ("ops.example.org", "127.0.0.1:9")}
    with Jobs(job_settings.model_validate(job_settings.model_dump() | key)) as jobs:
        assert submit(jobs, webhook="https://ops.example.org/in").webhook is not None
        assert submit(jobs, webhook="http://127.0.0.1:9/in").webhook is not None
        for url in ("https://ops.example.com/", "http://127.0.0.1:10/", "https://a:b@ops.example.org/"):
            with pytest.raises(ForbiddenReferenceError):
                submit(jobs, webhook=url)
        assert len(jobs.list()) == 2
    with Jobs(job_settings) as jobs, pytest.raises(UsageError, match="key"):
        submit(jobs, webhook="https://ops.example.org/in")


def test_a_full_disk_refuses_a_job(jobs, monkeypatch):
    """What cannot be written down is not accepted, and leaves no open job behind."""

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(jobs._store._storage, "put_if_empty", full)
    with pytest.raises(StorageFullError):
        submit(jobs)
    assert jobs.folders.open_ids() == []
    monkeypatch.setattr(jobs.folders, "open_one", full)
    with pytest.raises(StorageFullError):
        submit(jobs)
