"""Webhooks: signed so that a receiver can check them, tried again, given up, and never in a worker's way."""

import base64
import hashlib
import hmac
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from job_stand_ins import submit, until

from serving.jobs import Jobs
from serving.jobs.bell import ring
from serving.jobs.job import End, JobError, now
from serving.jobs.webhooks import Messenger, signed_headers
from serving.settings import ServiceSettings
from tocsin.errors import TruncatedError

SECRET = "a key of the tests"


class Receiver:
    """A host that answers with one status after the other, the last one for ever, and keeps what came."""

    def __init__(self, *statuses):
        self.got = []
        self.answers = threading.Event()
        self.answers.set()
        self._statuses = list(statuses)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.got.append((self.path, dict(self.headers), body))
                outer.answers.wait()
                self.send_response(outer._statuses.pop(0) if len(outer._statuses) > 1 else outer._statuses[0])
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self):
        """Stop."""
        self.answers.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def receive():
    """Return a function that starts a receiver."""
    receivers = []

    def start(*statuses):
        receivers.append(Receiver(*statuses))
        return receivers[-1]

    yield start
    for receiver in receivers:
        receiver.close()


def told(job_settings, receiver, **end):
    """Let a job end that tells a receiver, and return it and its file of what is still to be told."""
    settings = ServiceSettings(state=job_settings.state, webhook_secret=SECRET, webhook_hosts=(receiver.host,))
    with Jobs(settings) as jobs:
        job = submit(jobs, webhook=f"http://{receiver.host}/in?x=1")
        hook = jobs.folders.hook(job.id)
        with Messenger(settings, jobs.folders, pauses_s=(0.01, 0.01)):
            assert receiver.got == []
            jobs._store.end(job.id, End(**{"state": "cancelled", "ended": now()} | end))
            ring(jobs.folders.ended_bells, job.id)
            until(lambda: not hook.exists(), "the end of the telling")
        return job


def test_an_end_is_told_and_signed(job_settings, receive):
    """What arrives names job and state, and its signature is that of standardwebhooks.com."""
    receiver = receive(204)
    error = JobError.of(TruncatedError("a.tif", "all of it", "send it again"))
    job = told(job_settings, receiver, state="failed", error=error)
    [(path, headers, body)] = receiver.got
    said = json.loads(body)
    assert path == "/in?x=1"
    assert said["type"] == "job.ended"
    assert said["data"] == {
        "id": job.id,
        "hazard": "flood",
        "state": "failed",
        "error": error.model_dump(),
        "href": f"/v1/jobs/{job.id}",
    }
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = base64.b64encode(hmac.new(SECRET.encode(), content, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{digest}"
    assert headers["webhook-id"] == f"msg_{job.id}"


def test_the_signature_is_that_of_the_standard():
    """Id, timestamp and body are signed as one, so that none can be exchanged."""
    secret = ServiceSettings(webhook_secret=SECRET).webhook_secret
    one = signed_headers(secret, "msg_1", 1, b"{}")
    others = [("msg_2", 1, b"{}"), ("msg_1", 2, b"{}"), ("msg_1", 1, b"[]")]
    assert {one["webhook-signature"]}.isdisjoint(signed_headers(secret, *each)["webhook-signature"] for each in others)


def test_a_host_that_fails_is_told_again(job_settings, receive):
    """The same message comes until it is taken."""
    receiver = receive(500, 503, 200)
    told(job_settings, receiver)
    assert len({headers["webhook-id"] for _, headers, _ in receiver.got}) == 1
    assert len(receiver.got) == 3


def test_a_host_that_goes_on_failing_is_given_up(job_settings, receive, caplog):
    """After the last pause nobody tries again, and the log says so."""
    receiver = receive(500)
    told(job_settings, receiver)
    assert len(receiver.got) == 3
    assert "given up" in caplog.text


def test_no_redirect_is_followed(job_settings, receive):
    """A host that sends elsewhere has not taken the message, and nobody else gets it."""
    receiver = receive(307)
    told(job_settings, receiver)
    assert {path for path, _, _ in receiver.got} == {"/in?x=1"}


def test_a_host_that_was_taken_off_the_list_is_not_told(job_settings, receive):
    """The list counts as it is when the job ends."""
    receiver = receive(200)
    settings = ServiceSettings(state=job_settings.state, webhook_secret=SECRET, webhook_hosts=(receiver.host,))
    with Jobs(settings) as jobs:
        job = submit(jobs, webhook=f"http://{receiver.host}/")
        jobs.cancel(job.id)
        shorter = settings.model_copy(update={"webhook_hosts": ()})
        with Messenger(shorter, jobs.folders, pauses_s=()):
            until(lambda: not jobs.folders.hook(job.id).exists(), "the end of the telling")
    assert receiver.got == []


def test_what_was_not_told_is_told_by_the_next_service(job_settings, receive):
    """A service that stops before a job ends leaves the telling to the one after it."""
    receiver = receive(200)
    settings = ServiceSettings(state=job_settings.state, webhook_secret=SECRET, webhook_hosts=(receiver.host,))
    with Jobs(settings) as jobs:
        with Messenger(settings, jobs.folders):
            job = submit(jobs, webhook=f"http://{receiver.host}/")
        jobs.cancel(job.id)
        with Messenger(settings, jobs.folders):
            until(lambda: receiver.got, "a message")
    assert json.loads(receiver.got[0][2])["data"]["state"] == "cancelled"


def test_a_host_that_never_answers_keeps_no_service_from_stopping(job_settings, receive):
    """The messenger is gone while the host still thinks, and what it did not take is still to be told."""
    receiver = receive(200)
    receiver.answers.clear()
    settings = ServiceSettings(state=job_settings.state, webhook_secret=SECRET, webhook_hosts=(receiver.host,))
    with Jobs(settings) as jobs:
        job = submit(jobs, webhook=f"http://{receiver.host}/")
        jobs.cancel(job.id)
        with Messenger(settings, jobs.folders):
            until(lambda: receiver.got, "a message")
        assert not receiver.answers.is_set()
        assert jobs.folders.hook(job.id).exists()


def test_a_forgotten_job_is_told_to_nobody(job_settings, job_folders, job_store, receive):
    """What is left of a webhook whose job is gone is removed."""
    settings = ServiceSettings(state=job_settings.state, webhook_secret=SECRET, webhook_hosts=("ops.example.org",))
    hook = job_folders.hook(f"{1:012x}-{1:020x}")
    hook.touch()
    with Messenger(settings, job_folders):
        until(lambda: not hook.exists(), "the removal")
