"""One attempt at a job: how it ends, whatever happens, and what it leaves."""

import errno
import json

import pytest
from job_stand_ins import ToldScorer, submit

from serving.jobs import attempt as attempts
from serving.jobs.attempt import Attempt, UncertainError
from serving.jobs.folders import RESULT
from serving.jobs.job import Run, now
from tocsin.errors import RuntimeUnavailableError, TruncatedError
from tocsin.scoring import ScoringOptions


@pytest.fixture
def make(job_settings, job_folders, job_store, monkeypatch):
    """Return a function that takes the next job and makes an attempt with a scorer."""
    monkeypatch.setattr(attempts, "TOLD_S", 0.0)
    monkeypatch.setattr(attempts, "PAUSES_S", (0.01, 0.02))
    monkeypatch.chdir(job_folders.state)

    def make(scorer, *, stopping=lambda: False, **changes):
        settings = job_settings.model_copy(update=changes)
        job_id = job_store.take()
        lease = job_folders.hold(job_id)
        Attempt(settings, job_folders, job_store, lease, stopping).make(scorer, job_id)
        return job_id

    return make


def names(folder):
    """Return the names in a folder."""
    return sorted(path.name for path in folder.iterdir())


def test_a_job_is_done(jobs, make, job_folders, job_store):
    """Its products appear whole, named without a folder; its upload is removed; what a window took is kept."""
    job = submit(jobs, options=ScoringOptions(threshold=0.25))
    scorer = ToldScorer()
    make(scorer)
    done = jobs.get(job.id)
    assert (done.state, done.progress, done.attempt, done.error) == ("done", 1.0, 1, None)
    assert done.result.products == {"class": "scene_class.tif"}
    assert names(job_folders.job(job.id)) == ["out"]
    assert names(jobs.out(job.id)) == [RESULT, "scene_class.tif"]
    assert json.loads((jobs.out(job.id) / RESULT).read_text())["products"] == {"class": "scene_class.tif"}
    [(hazard, inputs, options)] = scorer.scored
    assert (hazard, inputs, options.threshold, options.quiet) == ("flood", {"post": "in/scene.tif"}, 0.25, True)
    assert list(job_store.paces(["flood"])) == ["flood"]
    assert job_folders.open_ids() == []


def test_products_are_not_seen_before_they_are_whole(jobs, make):
    """While windows are scored there is no folder of products, and progress is told."""
    job = submit(jobs)
    seen = []

    def look(_):
        now_known = jobs.get(job.id)
        seen.append((now_known.state, now_known.progress, jobs.out(job.id).exists()))

    make(ToldScorer(windows=4, at_window=look))
    assert seen == [("running", k / 4, False) for k in range(4)]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TruncatedError("a", "b", "c"), "truncated"),
        (OSError(errno.ENOSPC, "No space left on device"), "storage_full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "storage_full"),
    ],
)
def test_a_job_fails_with_its_reason(jobs, make, job_folders, error, code):
    """A refusal and a full disk end the job, say why, and leave nothing behind."""
    job = submit(jobs)
    make(ToldScorer(raises=[error]))
    failed = jobs.get(job.id)
    assert (failed.state, failed.error.code, failed.result) == ("failed", code, None)
    assert names(job_folders.job(job.id)) == []
    assert job_folders.open_ids() == []


@pytest.mark.parametrize(("error", "code"), [(MemoryError(), "too_large"), (ZeroDivisionError("secret"), "internal")])
def test_what_nobody_expected_ends_the_job_and_the_process(jobs, make, error, code):
    """The job fails without a word of the inside, and the worker is to be replaced."""
    job = submit(jobs)
    with pytest.raises(UncertainError):
        make(ToldScorer(raises=[error]))
    failed = jobs.get(job.id)
    assert (failed.state, failed.error.code) == ("failed", code)
    assert "secret" not in failed.error.model_dump_json()


def test_a_cancel_ends_the_scoring_at_the_next_window(jobs, make, job_folders):
    """No further window is scored, and nothing is left."""
    job = submit(jobs)
    windows = []

    def cancel(window):
        windows.append(window)
        if window == 2:
            assert jobs.cancel(job.id).state == "running"

    make(ToldScorer(windows=9, at_window=cancel))
    assert windows == [1, 2]
    assert jobs.get(job.id).state == "cancelled"
    assert names(job_folders.job(job.id)) == []


def test_a_job_cancelled_before_it_begins_is_not_scored(jobs, make, job_store):
    """A cancel that comes between the queue and the first window counts."""
    job = submit(jobs)
    job_store.ask_cancel(job.id)
    scorer = ToldScorer()
    make(scorer)
    assert scorer.scored == []
    assert jobs.get(job.id).state == "cancelled"


def test_a_stop_of_the_service_puts_the_job_back(jobs, make, job_folders):
    """It waits again with nothing left of the attempt, which does not count; the next one scores it."""
    job = submit(jobs)
    scorer = ToldScorer()
    make(scorer, stopping=lambda: True)
    waiting = jobs.get(job.id)
    assert (waiting.state, waiting.queue_place, waiting.progress) == ("queued", 1, 0.0)
    assert names(job_folders.job(job.id)) == ["in"]
    make(scorer, job_attempts=1)
    assert jobs.get(job.id).state == "done"


def test_a_job_that_takes_too_long_fails(jobs, make):
    """The deadline is kept at every window."""
    job = submit(jobs)
    make(ToldScorer(), job_deadline_s=1e-9)
    assert jobs.get(job.id).error.code == "deadline_exceeded"


def test_a_job_under_which_processes_die_fails(jobs, make, job_store):
    """The attempt after the last one is not begun."""
    job = submit(jobs)
    for _ in range(3):
        job_store.begin(job.id)
    scorer = ToldScorer()
    make(scorer)
    assert scorer.scored == []
    failed = jobs.get(job.id)
    assert (failed.state, failed.error.code) == ("failed", "interrupted")
    assert "3 times" in failed.error.given


def test_products_of_a_worker_that_died_after_the_last_one_are_taken(jobs, make, job_store, job_folders):
    """Killed between its last product and its note of the end: the job is done, and not scored twice."""
    job = submit(jobs)
    end = job_store.end
    job_store.end = lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        make(ToldScorer())
    job_store.end = end
    assert jobs.get(job.id).state == "running"
    job_store.enqueue(job.id, 0)
    scorer = ToldScorer()
    make(scorer)
    assert scorer.scored == []
    assert jobs.get(job.id).result.products == {"class": "scene_class.tif"}
    assert names(jobs.out(job.id)) == [RESULT, "scene_class.tif"]


def test_what_an_attempt_left_does_not_disturb_the_next(jobs, make, job_folders):
    """Half a product of a killed worker is removed before anything is written."""
    job = submit(jobs)
    half = job_folders.partial(job.id, 1)
    half.mkdir()
    (half / "half.tif").write_bytes(b"half")
    make(ToldScorer())
    assert names(job_folders.job(job.id)) == ["out"]


def away():
    """Return what is said of a server that is not there."""
    return RuntimeUnavailableError("a server", "one that answers", "start it")


def test_a_server_that_comes_back_costs_nothing(jobs, make):
    """It is asked again within the patience, as one attempt."""
    job = submit(jobs, options=ScoringOptions(runtime="http://127.0.0.1:9"))
    scorer = ToldScorer(raises=[away(), away()])
    # A scoring that failed removes what it wrote.
    scorer.score, score = (lambda hazard, *, out, **named: _aside(score, hazard, out, named)), scorer.score
    make(scorer, runtime_patience_s=60)
    done = jobs.get(job.id)
    assert (done.state, done.attempt, len(scorer.scored)) == ("done", 1, 3)


def _aside(score, hazard, out, named):
    import shutil

    try:
        return score(hazard, out=out, **named)
    except RuntimeUnavailableError:
        shutil.rmtree(out)
        raise


@pytest.mark.parametrize(("runtime", "patience"), [("http://127.0.0.1:9", 0.0), ("onnx", 60.0)])
def test_a_runtime_that_stays_away_fails_the_job(jobs, make, runtime, patience):
    """A server after the patience, and what is missing on this machine at once."""
    job = submit(jobs, options=ScoringOptions(runtime=runtime))
    scorer = ToldScorer(raises=[away()] * 2)
    make(scorer, runtime_patience_s=patience)
    assert jobs.get(job.id).error.code == "runtime_unavailable"
    assert len(scorer.scored) == 1


def test_a_cancel_is_heard_while_a_server_is_away(jobs, make, monkeypatch):
    """Who waits for a server looks for a cancel in between."""
    job = submit(jobs, options=ScoringOptions(runtime="http://127.0.0.1:9"))
    monkeypatch.setattr(attempts, "PAUSES_S", (600.0, 600.0))

    def score(*_, **__):
        jobs.cancel(job.id)
        raise away()

    scorer = ToldScorer()
    scorer.score = score
    make(scorer, runtime_patience_s=6000)
    assert jobs.get(job.id).state == "cancelled"


def test_a_store_that_is_away_for_a_moment_costs_progress_only(jobs, make, job_store):
    """Notes of progress that cannot be written do not end the work."""
    job = submit(jobs)
    put_run = job_store.put_run

    def put(job_id, run):
        if run.done:
            raise away()
        put_run(job_id, run)

    job_store.put_run = put
    make(ToldScorer())
    assert jobs.get(job.id).state == "done"


def test_the_end_is_written_down_as_soon_as_there_is_room(jobs, make, job_store, monkeypatch):
    """A store that refuses the end is asked again, so that the work is not lost."""
    monkeypatch.setattr(attempts, "RECORD_S", 0.01)
    job = submit(jobs)
    end, refusals = job_store.end, [away(), away()]

    def full(*given):
        if refusals:
            raise refusals.pop()
        return end(*given)

    job_store.end = full
    make(ToldScorer())
    assert (jobs.get(job.id).state, refusals) == ("done", [])


def test_a_job_that_has_ended_is_left_alone(jobs, make, job_store, job_folders):
    """One that stands twice in the queue is scored once."""
    job = submit(jobs)
    job_store.enqueue(job.id, 0)
    first, second = ToldScorer(), ToldScorer()
    make(first)
    assert job_store.take() == job.id
    assert job_folders.hold(job.id) is None
    job_folders.open_one(job.id)
    job_store.enqueue(job.id, 0)
    make(second)
    assert (len(first.scored), len(second.scored)) == (1, 0)
    assert job_folders.open_ids() == []


def test_a_run_that_nobody_holds_waits(jobs, job_store):
    """A job whose worker died is queued for who asks, not running."""
    job = submit(jobs)
    job_store.put_run(job.id, Run(attempt=1, started=now(), worker=None, done=3, total=4))
    waiting = jobs.get(job.id)
    assert (waiting.state, waiting.progress, waiting.started, waiting.attempt) == ("queued", 0.0, None, 1)
