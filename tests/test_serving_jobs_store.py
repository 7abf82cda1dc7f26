"""The job store is the same over every kind of server, and says in our words what it cannot do."""

import os
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
from job_stand_ins import PATIENCE_S

from serving.jobs.job import Accepted, End, JobError, NewJob, Run, new_job_id, now
from serving.jobs.store import JobStore, store_url
from tocsin.errors import RuntimeUnavailableError, StorageFullError, UsageError

POSTGRES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
REDIS = shutil.which("redis-server") or shutil.which("valkey-server")


def free_port():
    """Return a port that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def opened(url):
    """Return a store once its server answers."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return JobStore(url)
        except RuntimeUnavailableError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    """Return the URL of a real PostgreSQL server of this module's own."""
    if POSTGRES is None or (os.getuid() == 0 and shutil.which("setpriv") is None):
        pytest.skip("needs the programs of PostgreSQL")
    folder, port = tmp_path_factory.mktemp("postgres"), free_port()
    as_user = []
    if os.getuid() == 0:
        # The server refuses to run as root.
        nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"]
        as_user = ["setpriv", *nobody]
        os.chown(folder, 65534, 65534)
        for parent in (folder, *folder.parents):
            if parent.name.startswith("pytest-"):
                parent.chmod(0o755)
    data = folder / "data"
    setup = [POSTGRES / "initdb", "-D", data, "-U", "tocsin", "--auth=trust", "--no-sync"]
    subprocess.run([*as_user, *setup], check=True, capture_output=True)
    options = ["-c", "listen_addresses=127.0.0.1", "-c", f"port={port}", "-c", f"unix_socket_directories={folder}"]
    command = [*as_user, POSTGRES / "postgres", "-D", data, *options]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        yield f"postgresql://tocsin@127.0.0.1:{port}/postgres"
        server.terminate()


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    """Return the URL of a real Redis server of this module's own."""
    if REDIS is None:
        pytest.skip("needs redis-server")
    port = free_port()
    command = [
        REDIS,
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
        tmp_path_factory.mktemp("redis"),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        yield f"redis://127.0.0.1:{port}/0"
        server.terminate()


@pytest.fixture(params=["sqlite", "postgres", "redis"])
def two_stores(request, tmp_path):
    """Return two stores over one place, as two processes have them."""
    url = f"sqlite:///{tmp_path}/jobs.db" if request.param == "sqlite" else request.getfixturevalue(request.param)
    stores = opened(url), opened(url)
    while stores[0].take() is not None:
        """Empty what another test left."""
    yield stores
    for store in stores:
        store.close()


def accepted(**named):
    """Return the record of a job."""
    order = NewJob(**{"token": "desk", "hazard": "flood", "inputs": {"post": "in/a.tif"}} | named)
    return Accepted(order=order, created=now())


def test_what_one_writes_the_other_reads(two_stores):
    """Every fact comes back as it was written, through another connection."""
    here, there = two_stores
    record = accepted(idempotency_key=new_job_id(), priority=3)
    job_id = record.order.id
    here.accept(record)
    facts = there.facts([job_id])[job_id]
    assert (facts.accepted, facts.run, facts.cancel_asked, facts.end) == (record, None, False, None)
    run = Run(attempt=here.begin(job_id), started=now(), worker=7, done=1, total=4)
    here.put_run(job_id, run)
    here.ask_cancel(job_id)
    error = JobError(code="internal", http_status=500, given="a", expected="b", todo="c")
    end = End(state="failed", ended=now(), error=error)
    assert here.end(job_id, end)
    facts = there.facts([job_id])[job_id]
    assert (facts.run, facts.cancel_asked, facts.end) == (run, True, end)
    assert there.cancel_asked(job_id)
    assert there.named("desk", record.order.idempotency_key) == job_id
    assert there.named("other", record.order.idempotency_key) is None
    assert there.known([job_id, new_job_id()]) == {job_id}


def test_the_first_end_is_the_end(two_stores):
    """Of two writers that end a job, one is told that it did, and its end stays."""
    here, there = two_stores
    job_id = new_job_id()
    assert here.end(job_id, End(state="cancelled", ended=now()))
    assert not there.end(job_id, End(state="done", ended=now()))


def test_the_queue_is_in_order_and_gives_each_job_once(two_stores):
    """Higher priorities first, then who came first; two takers at a time never get the same one."""
    records = [accepted(priority=priority) for priority in (0, 0, 5, -5, *[-6] * 30)]
    for record in records:
        two_stores[0].accept(record)
    ids = [record.order.id for record in records]
    assert two_stores[1].queued() == [ids[2], ids[0], ids[1], *ids[3:]]
    assert two_stores[1].take() == ids[2]
    taken = [[], []]

    def take(store, mine):
        while (job_id := store.take()) is not None:
            mine.append(job_id)

    threads = [threading.Thread(target=take, args=each) for each in zip(two_stores, taken, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken[0] + taken[1]) == sorted(set(ids) - {ids[2]})


def test_attempts_are_counted_across_processes(two_stores):
    """Each attempt has the next number, and one that is taken back leaves its number to the next."""
    here, there = two_stores
    job_id = new_job_id()
    assert [here.begin(job_id), there.begin(job_id)] == [1, 2]
    here.take_back(job_id)
    assert there.begin(job_id) == 2


def test_what_is_forgotten_leaves_nothing(two_stores):
    """No fact, key nor count of a forgotten job is left, and those of others stay."""
    here, there = two_stores
    gone, kept = accepted(idempotency_key=new_job_id()), accepted(idempotency_key=new_job_id())
    for record in (gone, kept):
        here.accept(record)
        here.begin(record.order.id)
        here.ask_cancel(record.order.id)
        here.end(record.order.id, End(state="cancelled", ended=now()))
    here.forget(gone.order.id)
    assert list(there.facts([gone.order.id, kept.order.id])) == [kept.order.id]
    assert there.named("desk", gone.order.idempotency_key) is None
    assert there.named("desk", kept.order.idempotency_key) == kept.order.id
    assert (there.begin(gone.order.id), there.begin(kept.order.id)) == (1, 2)


def test_hundreds_of_jobs_are_read_at_once(two_stores):
    """A list longer than one question may be comes back whole and in order."""
    ids = [new_job_id() for _ in range(250)]
    for job_id in ids[::10]:
        two_stores[0].accept(accepted(id=job_id))
    assert list(two_stores[1].facts(ids)) == ids[::10]


def test_a_record_of_another_version_hides_no_other(two_stores, caplog):
    """What cannot be read is left out and logged; the jobs beside it are seen."""
    here, there = two_stores
    strange, fine = accepted(), accepted()
    for record in (strange, fine):
        here.accept(record)
    here._put(f"run:{strange.order.id}", b'{"of": "the future"}')
    assert list(there.facts([strange.order.id, fine.order.id])) == [fine.order.id]
    assert strange.order.id in caplog.text


def test_the_pace_of_a_hazard_is_kept(two_stores):
    """What a window took is found again by hazard, the last one counts."""
    here, there = two_stores
    here.put_pace("flood", 0.5)
    here.put_pace("flood", 0.25)
    assert there.paces(["flood", "volcano"]) == {"flood": 0.25}


@pytest.mark.parametrize("url", ["mysql://host/db", "service.db", ""])
def test_another_kind_of_store_is_refused(url):
    """What is neither SQLite nor Redis nor PostgreSQL is refused by its scheme."""
    with pytest.raises(UsageError, match="redis"):
        JobStore(url)


@pytest.mark.parametrize("scheme", ["redis", "postgresql"])
def test_a_store_that_is_away_is_told_without_its_password(scheme):
    """Nobody listens: the error says where it was looked for, and not with which password."""
    with pytest.raises(RuntimeUnavailableError) as error:
        JobStore(f"{scheme}://user:hidden@127.0.0.1:{free_port()}/0").queued()
    assert "127.0.0.1" in str(error.value)
    assert "hidden" not in str(error.value)


def test_a_full_store_says_so(job_settings, tmp_path):
    """What SQLite says of a database without room is storage_full."""
    tmp_path.joinpath("state").mkdir()
    store = JobStore(store_url(job_settings))
    pages = store._storage.sql("pragma page_count", results=True)[0][0]
    store._storage.sql(f"pragma max_page_count={pages}")
    with pytest.raises(StorageFullError, match="room"):
        store.accept(accepted(inputs={"post": "x" * 400_000}))
    store.close()
