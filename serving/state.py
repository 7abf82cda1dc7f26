"""What every route of the service works with, opened once and closed with the application."""

from dataclasses import dataclass

from starlette.requests import Request

from serving.jobs import Jobs
from serving.observability import Metrics, Readiness
from serving.settings import ServiceSettings


@dataclass(frozen=True, slots=True)
class Service:
    """Parts of a running service.

    Attributes
    ----------
    settings : ServiceSettings
        As it was started.
    jobs : Jobs
        Where every scoring goes.
    metrics : Metrics
        What is counted.
    readiness : Readiness
        Whether it can score.
    """

    settings: ServiceSettings
    jobs: Jobs
    metrics: Metrics
    readiness: Readiness


def service_of(request: Request) -> Service:
    """Return the service that a request came to."""
    found: Service = request.app.state.service
    return found


def owner_of(request: Request) -> str:
    """Return the name of the token that a request came with, as the gate left it."""
    name: str = request.scope["state"]["token_name"]
    return name
