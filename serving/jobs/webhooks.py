"""Who may be told that a job has ended."""

from pydantic import AnyUrl

from serving.settings import ServiceSettings
from tocsin.errors import ForbiddenReferenceError, UsageError


def check_webhook(url: AnyUrl | None, settings: ServiceSettings) -> None:
    """Refuse to tell a host that the operator has not named.

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
