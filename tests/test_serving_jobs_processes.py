"""Real workers, really killed: every accepted job ends, with products or a reason, and none twice."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest
import rasterio
from job_stand_ins import PATIENCE_S, held_server, until

from serving.jobs import Jobs, NewJob, new_job_id
from serving.jobs.supervisor import Supervisor
from serving.settings import ServiceSettings
from tocsin.scoring import ScoringOptions

pytestmark = pytest.mark.slow

SERVE = """
import sys, time
from serving.jobs.supervisor import Supervisor
from serving.settings import ServiceSettings
supervisor = Supervisor(ServiceSettings.model_validate_json(sys.argv[1]))
supervisor.start()
while True:
    print(*supervisor.pids, flush=True)
    time.sleep(0.1)
"""


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Return a scene of 4 windows of 64 px, half of it water."""
    import numpy as np
    from rasterio.transform import from_origin

    path = tmp_path_factory.mktemp("scene") / "scene.tif"
    values = np.full((2, 100, 100), -10, np.float32)
    values[1] = -18
    values[1, :, :50] = -24
    how = {"height": 100, "width": 100, "count": 2, "dtype": "float32", "crs": "EPSG:32630"}
    with rasterio.open(path, "w", driver="GTiff", transform=from_origin(5e5, 4.4e6, 10, 10), **how) as raster:
        raster.write(values)
        raster.descriptions = ("VV", "VH")
    return path


@pytest.fixture
def held(logistic_models):
    """Return a server whose windows wait until they are let go."""
    pytest.importorskip("tritonclient", reason="needs the extra triton")
    with held_server(logistic_models) as server:
        yield server


@pytest.fixture
def settings(tmp_path):
    """Return settings that lose no time."""
    return ServiceSettings(state=tmp_path / "state", cancel_grace_s=1, runtime_patience_s=PATIENCE_S)


@pytest.fixture
def jobs(settings):
    """Return the jobs of that service."""
    with Jobs(settings) as jobs:
        yield jobs


@pytest.fixture
def order(jobs, scene, logistic_models):
    """Return a function that submits the scene, to be scored by a runtime."""

    def submit(runtime="onnx", **named):
        job_id = new_job_id()
        shutil.copy(scene, jobs.make_folder(job_id) / "in" / "scene.tif")
        options = ScoringOptions(model_repository=logistic_models, runtime=runtime, shared_memory=False, threads=1)
        new = NewJob(id=job_id, token="desk", hazard="flood", inputs={"post": "in/scene.tif"}, options=options, **named)
        return jobs.submit(new)

    return submit


def ended(jobs, job):
    """Wait until a job is over and its worker has tidied up, and return it."""
    found = until(lambda: (found := jobs.get(job.id)).is_over and found, f"the end of {job.id}")
    until(lambda: job.id not in jobs.folders.open_ids(), "the end of the lease")
    return found


def is_whole(jobs, job):
    """Say whether every product of a job that is done is there, and nothing half beside them."""
    result = job.result
    folder = jobs.folders.job(job.id)
    with rasterio.open(jobs.out(job.id) / result.products["class"]) as raster:
        classes = raster.read(1)
    whole = {path.name for path in jobs.out(job.id).iterdir()} == {*result.products.values(), ".result.json"}
    return whole and [path.name for path in folder.iterdir()] == ["out"] and (classes[:, :40] == 1).all()


def is_alive(pid):
    """Say whether a process is there, and no corpse."""
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123 - one line of the kernel's
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def running(jobs, job, server, windows=1):
    """Wait until a job runs and so many of its windows were asked for, and return its worker."""
    until(lambda: server.asked >= windows, f"window {windows}")
    return until(lambda: _worker(jobs, job), "a worker")


def _worker(jobs, job):
    run = jobs._store.facts([job.id])[job.id].run
    return run.worker if run else None


def test_a_job_is_scored_by_a_worker_that_ends_with_the_service(jobs, settings, order):
    """Its memory is bounded, the products are whole, no path of the server is told, and a stop leaves no process."""
    with Supervisor(settings.model_copy(update={"worker_memory_bytes": 8 << 30})) as supervisor:
        job = ended(jobs, order())
        pids = supervisor.pids
        assert len(pids) == 1
        assert resource.prlimit(pids[0], resource.RLIMIT_DATA)[0] == 8 << 30
    assert job.state == "done"
    assert is_whole(jobs, job)
    assert str(settings.state) not in job.model_dump_json(exclude={"options"})
    assert not any(is_alive(pid) for pid in pids)


def test_a_killed_worker_loses_no_job(jobs, settings, order, held):
    """SIGKILL in the middle of one job while another waits: both are done, one at its second attempt, each once."""
    with Supervisor(settings):
        first, second = order(held.url), order()
        os.kill(running(jobs, first, held), signal.SIGKILL)
        until(lambda: jobs.get(first.id).attempt == 2, "a second attempt")
        held.let_go()
        done = [ended(jobs, job) for job in (first, second)]
    assert [job.state for job in done] == ["done", "done"]
    assert sorted(job.attempt for job in done) == [1, 2]
    assert all(is_whole(jobs, job) for job in done)


def test_a_job_that_kills_its_workers_fails(jobs, settings, order, held):
    """After the last attempt it has failed with a reason; the service goes on with the next job."""
    with Supervisor(settings.model_copy(update={"job_attempts": 2})):
        poison = order(held.url)
        for attempt in (1, 2):
            until(lambda attempt=attempt: jobs.get(poison.id).attempt == attempt, "an attempt")
            os.kill(running(jobs, poison, held, windows=attempt), signal.SIGKILL)
            until(lambda: _worker(jobs, poison) is None or jobs.get(poison.id).is_over, "a sweep")
        failed = ended(jobs, poison)
        held.let_go()
        assert ended(jobs, order()).state == "done"
    assert (failed.state, failed.error.code) == ("failed", "interrupted")
    assert not jobs.out(poison.id).exists()


def test_a_killed_service_takes_its_workers_with_it_and_loses_no_job(jobs, settings, order, held):
    """SIGKILL of the process that supervises: its worker goes at once, the next service finishes the job."""
    job = order(held.url)
    told = settings.model_dump_json(exclude={"tokens", "webhook_secret"})
    with subprocess.Popen([sys.executable, "-c", SERVE, told], stdout=subprocess.PIPE, text=True) as service:
        worker = running(jobs, job, held)
        service.kill()
    until(lambda: not is_alive(worker), "the end of the worker")
    assert not jobs.out(job.id).exists()
    held.let_go()
    with Supervisor(settings):
        done = ended(jobs, job)
    assert (done.state, done.attempt) == ("done", 2)
    assert is_whole(jobs, done)


def test_a_cancel_ends_work_that_does_not_listen(jobs, settings, order, held):
    """A worker in the middle of a window that never ends is killed after the grace; the next job gets another one."""
    with Supervisor(settings):
        job = order(held.url)
        worker = running(jobs, job, held)
        jobs.cancel(job.id)
        cancelled = ended(jobs, job)
        assert ended(jobs, order()).state == "done"
    assert cancelled.state == "cancelled"
    assert not is_alive(worker)
    assert list(jobs.folders.job(job.id).iterdir()) == []


def test_a_full_disk_fails_the_job_that_meets_it(jobs, settings, order, held):
    """No room for product nor record: storage_full once the record fits, nothing left, and the worker goes on."""
    with Supervisor(settings):
        job = order(held.url)
        worker = running(jobs, job, held)
        partial = jobs.folders.partial(job.id, 1)
        assert partial.exists()
        # No file of this process can grow: for who writes that is a full disk.
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        held.let_go()
        until(lambda: not partial.exists(), "the end of the attempt")
        assert not jobs.get(job.id).is_over
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        failed = ended(jobs, job)
        done = ended(jobs, order())
    assert (failed.state, failed.error.code) == ("failed", "storage_full")
    assert list(jobs.folders.job(job.id).iterdir()) == []
    assert is_whole(jobs, done)


def test_a_server_that_comes_late_is_waited_for(jobs, settings, order, logistic_models):
    """Triton away when the job begins, and back within the patience: the job is done at its first attempt."""
    pytest.importorskip("tritonclient", reason="needs the extra triton")
    with held_server(logistic_models) as server:
        port, url = server.port, server.url
    with Supervisor(settings):
        job = order(url)
        until(lambda: _worker(jobs, job), "a worker")
        with held_server(logistic_models, port) as server:
            server.let_go()
            done = ended(jobs, job)
    assert (done.state, done.attempt) == ("done", 1)


def test_a_worker_that_is_told_to_stop_puts_its_job_back(jobs, settings, order, held):
    """SIGTERM between two windows: the job waits as if it had not been begun, and nothing of it is left."""
    job = order(held.url)
    command = [sys.executable, "-m", "serving.jobs.worker"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as worker:
        worker.stdin.write(settings.model_dump_json(exclude={"tokens", "webhook_secret"}) + "\n")
        worker.stdin.flush()
        assert running(jobs, job, held) == worker.pid
        worker.terminate()
        # It notices after the window that it is at.
        while worker.poll() is None:
            time.sleep(0.3)
            held.allow()
    assert worker.returncode == 0
    waiting = jobs.get(job.id)
    assert (waiting.state, waiting.queue_place) == ("queued", 1)
    assert [path.name for path in jobs.folders.job(job.id).iterdir()] == ["in"]
    assert jobs._store.begin(job.id) == 1
