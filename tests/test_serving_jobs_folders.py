"""Leases die with their process, and bells wake others; both with real processes."""

import os
import signal
import stat
import subprocess
import sys
import threading
import time

import pytest
from job_stand_ins import until

from serving.jobs.bell import Bell, is_heard, ring
from serving.jobs.folders import Folders
from serving.jobs.job import new_job_id
from tocsin.errors import RuntimeUnavailableError

HOLD = """
import sys, time
from pathlib import Path
from serving.jobs.folders import Folders
lease = Folders(Path(sys.argv[1])).hold(sys.argv[2])
print("held" if lease else "not held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def job_id(job_folders):
    """Return an open job."""
    job_id = new_job_id()
    job_folders.open_one(job_id)
    return job_id


def test_folders_are_the_users_own(job_settings):
    """Nobody else can look into uploads, products and the store."""
    folders = Folders(job_settings.state)
    job = folders.make(new_job_id())
    for folder in (folders.state, folders.jobs, folders.open, job / "in"):
        assert stat.S_IMODE(folder.stat().st_mode) & 0o077 == 0


def test_one_process_holds_a_job(job_folders, job_id):
    """A second hold fails until the first is given back; a job that has ended or never was cannot be held."""
    lease = job_folders.hold(job_id)
    assert job_folders.hold(job_id) is None
    lease.give_back()
    lease.give_back()
    job_folders.hold(job_id).end()
    assert not job_folders.is_open(job_id)
    assert job_folders.hold(job_id) is None
    assert job_folders.hold(new_job_id()) is None


def test_a_lock_on_a_file_that_was_removed_meanwhile_is_no_hold(job_folders, job_id, monkeypatch):
    """Who opened the file before another process ended the job does not hold it."""
    lock = os.stat

    def end_first(path, **named):
        job_folders.close_one(job_id)
        return lock(path, **named)

    monkeypatch.setattr("serving.jobs.folders.Path.stat", end_first)
    assert job_folders.hold(job_id) is None


def test_a_killed_process_holds_nothing(job_folders, job_id):
    """The kernel frees the lease of a process that was killed, and nobody has to wait for a heartbeat to grow old."""
    command = [sys.executable, "-c", HOLD, str(job_folders.state), job_id]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline().strip() == "held"
        assert job_folders.hold(job_id) is None
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert job_folders.hold(job_id) is not None


def test_only_one_is_first(job_folders):
    """A second supervisor waits until the first has gone."""
    first = job_folders.first("supervisor")
    assert job_folders.first("supervisor") is None
    os.close(first)
    second = job_folders.first("supervisor")
    assert second is not None
    os.close(second)


def test_a_ring_is_heard_by_all(tmp_path):
    """Every listener of a folder hears which jobs rang, each in the order of the rings."""
    ids = [new_job_id() for _ in range(3)]
    with Bell(tmp_path) as one, Bell(tmp_path) as other:
        for job_id in ids:
            ring(tmp_path, job_id)
        assert one.listen(5) == ids
        assert other.listen(5) == ids
        assert one.listen(0) == []


def test_a_ring_wakes_who_listens(tmp_path):
    """A listener that would wait for long returns when it is rung, or woken with nothing by its own process."""
    with Bell(tmp_path) as bell:
        heard = []
        for wake in (lambda: ring(tmp_path, "0" * 12 + "-" + "0" * 20), bell.wake):
            thread = threading.Thread(target=lambda: heard.append(bell.listen(600)))
            thread.start()
            wake()
            thread.join(60)
            assert not thread.is_alive()
        assert [len(each) for each in heard] == [1, 0]


def test_the_bell_of_a_killed_process_is_taken_down(tmp_path):
    """Nothing listens any more: the next ring removes the pipe, and goes on to the others."""
    made = "import sys, time; from pathlib import Path; from serving.jobs.bell import Bell; Bell(Path(sys.argv[1]))"
    with subprocess.Popen([sys.executable, "-c", f"{made}; time.sleep(600)", str(tmp_path)]) as process:
        until(lambda: [path for path in tmp_path.iterdir() if not path.name.startswith(".")], "a bell")
        process.kill()
    with Bell(tmp_path) as bell:
        ring(tmp_path, job_id := new_job_id())
        assert bell.listen(5) == [job_id]
        assert len(list(tmp_path.iterdir())) == 1


def test_a_service_without_a_worker_is_not_ready(jobs):
    """Nobody listens for work: refused; with a listener: fine; after it has gone: refused again."""
    for _ in range(2):
        with pytest.raises(RuntimeUnavailableError, match="worker"):
            jobs.check_workers()
        with Bell(jobs.folders.work_bells):
            jobs.check_workers()
    assert not is_heard(jobs.folders.state / "nowhere")


def test_a_full_bell_blocks_nobody(tmp_path):
    """A listener that sleeps for ever costs who rings nothing."""
    with Bell(tmp_path) as bell:
        for _ in range(3000):
            ring(tmp_path, new_job_id())
        assert len(bell.listen(5)) > 1000


def test_rubbish_in_a_bell_is_left_out(tmp_path):
    """Only ids are heard."""
    with Bell(tmp_path) as bell:
        os.write(bell._descriptor, b"\xff\xfe\n../../x\n")
        ring(tmp_path, job_id := new_job_id())
        assert bell.listen(5) == [job_id]


def test_an_upload_that_grows_is_touched(job_folders):
    """A folder counts as touched while a file in it is written to."""
    job_id = new_job_id()
    inside = job_folders.make(job_id) / "in"
    (inside / "a.tif").write_bytes(b"1")
    old = time.time() - 7200
    for path in (inside / "a.tif", inside, inside.parent):
        os.utime(path, (old, old))
    assert job_folders.untouched_s(job_id) == pytest.approx(7200, abs=60)
    (inside / "a.tif").write_bytes(b"2")
    assert job_folders.untouched_s(job_id) < 60
