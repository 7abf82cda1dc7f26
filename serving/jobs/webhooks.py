"""Telling others that a job has ended: who may be told, what is said, how it is signed, and when it is given up.

Signed as https://www.standardwebhooks.com says: the header webhook-signature holds ``v1,`` and the base64 of
HMAC-SHA256 over ``ID.TIMESTAMP.BODY``, so that a receiver checks who speaks, and that nothing was changed or replayed.
A message may come twice, after a crash, under the same webhook-id.
"""

import base64
import hashlib
import hmac
import json
import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Self

import httpx
from pydantic import AnyUrl, SecretStr

from serving.jobs.bell import Bell
from serving.jobs.folders import Folders
from serving.jobs.store import Facts, JobStore, store_url
from serving.settings import ServiceSettings
from tocsin.errors import ForbiddenReferenceError, TocsinError, UsageError

TIMEOUT_S: Final = 10.0
"""How long a host may take to answer."""
PAUSES_S: Final = (1.0, 5.0, 30.0, 120.0, 600.0)
"""Pauses between tries; after the last one it is given up."""
AT_ONCE: Final = 4
"""Hosts that are told at a time: a slow one keeps no other waiting."""
LOOK_S: Final = 1.0

_log = logging.getLogger(__name__)


def check_webhook(url: AnyUrl | None, settings: ServiceSettings) -> None:
    """Refuse to tell a host that the operator has not named.

    Parameters
    ----------
    url
        Whom to tell; None: nobody.
    settings
        Of the service, with the hosts that may be told, as HOST or HOST:PORT.

    Raises
    ------
    UsageError
        The service has no key to sign with.
    ForbiddenReferenceError
        The host is not allowed, or the URL carries a password.
    """
    if url is None:
        return
    if settings.webhook_secret is None:
        raise UsageError("a webhook", "none: this service has no key to sign with", "ask its operator, or poll the job")
    if url.username or url.password or not {url.host, f"{url.host}:{url.port}"} & set(settings.webhook_hosts):
        raise ForbiddenReferenceError(
            f"a webhook to {url.host}", f"one of {', '.join(settings.webhook_hosts) or 'no host'}", "ask its operator"
        )


def message_of(facts: Facts) -> bytes:
    """Return what is told of a job that has ended: enough to decide whether to fetch it."""
    assert facts.end is not None, "it has ended"
    order = facts.accepted.order
    job = {
        "id": order.id,
        "hazard": order.hazard,
        "state": facts.end.state,
        "error": facts.end.error.model_dump() if facts.end.error is not None else None,
        "href": f"/v1/jobs/{order.id}",
    }
    ended = facts.end.ended.isoformat().replace("+00:00", "Z")
    return json.dumps({"type": "job.ended", "timestamp": ended, "data": job}).encode()


def signed_headers(secret: SecretStr, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers by which a receiver checks a message."""
    content = f"{message_id}.{timestamp}.".encode() + body
    digest = hmac.new(secret.get_secret_value().encode(), content, hashlib.sha256).digest()
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


class Messenger:
    """Tells of ended jobs in threads of its own; what is still to be told lies in the state folder.

    Parameters
    ----------
    settings
        Of the service; without a key to sign with, nobody is told.
    folders
        Of the service.
    pauses_s
        Seconds between tries.
    """

    def __init__(self, settings: ServiceSettings, folders: Folders, pauses_s: Sequence[float] = PAUSES_S) -> None:
        self._settings = settings
        self._folders = folders
        self._pauses_s = pauses_s
        self._stop = threading.Event()
        self._due: dict[str, float] = {}
        self._tried: dict[str, int] = {}
        self._under_way: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="jobs-webhooks", daemon=True)

    def __enter__(self) -> Self:
        """Start, to be stopped at the end of the block."""
        if self._settings.webhook_secret is not None:
            self._bell = Bell(self._folders.ended_bells)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop; what was not told is told by the next one."""
        self._stop.set()
        if self._thread.is_alive():
            self._bell.wake()
            self._thread.join()
            self._bell.close()

    def _run(self) -> None:
        # No proxy of the environment, no redirect: the host that was allowed is spoken to, and no other.
        client = httpx.Client(timeout=TIMEOUT_S, follow_redirects=False, trust_env=False)
        pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="webhook")
        store: JobStore | None = None
        while not self._stop.is_set():
            try:
                store = store or JobStore(store_url(self._settings))
                for facts in self._due_now(store):
                    pool.submit(self._tell, client, facts)
            except TocsinError as error:
                _log.warning("webhooks have to wait: %s", error)
            self._bell.listen(LOOK_S)
        # A host that takes its time does not keep the service from stopping: it is told again by the next one.
        pool.shutdown(wait=False, cancel_futures=True)
        client.close()
        if store is not None:
            store.close()

    def _due_now(self, store: JobStore) -> list[Facts]:
        """Return the ended jobs that somebody is to be told of now, and mark them as under way."""
        due = []
        waiting = [job_id for job_id in self._folders.hooked_ids() if job_id not in self._under_way]
        facts = store.facts(waiting)
        for job_id in waiting:
            known = facts.get(job_id)
            if known is None:
                if not self._folders.is_open(job_id):
                    self._folders.hook(job_id).unlink(missing_ok=True)
            elif known.end is not None and time.monotonic() >= self._due.get(job_id, 0.0):
                self._under_way.add(job_id)
                due.append(known)
        return due

    def _tell(self, client: httpx.Client, facts: Facts) -> None:
        """Tell once, and note whether and when to try again."""
        order = facts.accepted.order
        problem = self._post(client, facts)
        tried = self._tried.get(order.id, 0)
        if problem is not None and tried < len(self._pauses_s):
            self._tried[order.id] = tried + 1
            self._due[order.id] = time.monotonic() + self._pauses_s[tried]
            _log.info("webhook of job %s: %s; tried again in %g s", order.id, problem, self._pauses_s[tried])
        else:
            if problem is not None:
                _log.warning("webhook of job %s: %s; given up", order.id, problem)
            self._folders.hook(order.id).unlink(missing_ok=True)
            self._due.pop(order.id, None)
            self._tried.pop(order.id, None)
        self._under_way.discard(order.id)

    def _post(self, client: httpx.Client, facts: Facts) -> str | None:
        """Send the message, and return what was wrong, None when it was taken."""
        order, secret = facts.accepted.order, self._settings.webhook_secret
        assert secret is not None, "nobody is told without a key"
        body = message_of(facts)
        headers = signed_headers(secret, f"msg_{order.id}", int(time.time()), body)
        try:
            # The list may have become shorter since the job was accepted.
            check_webhook(order.webhook, self._settings)
            # The answer's body is left alone: it may be endless.
            with client.stream("POST", str(order.webhook), content=body, headers=headers) as answer:
                return None if answer.is_success else f"answered {answer.status_code}"
        except (httpx.HTTPError, httpx.InvalidURL, ForbiddenReferenceError) as error:
            return f"{type(error).__name__}: {error}"
