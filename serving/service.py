"""The service as BentoML serves it: `bentoml serve serving.service:Tocsin`.

BentoML listens, starts and stops processes and builds bentos; every path is answered by our own application. Its
middleware and routes are left out whole: they know no token, set a timer per request, and would answer /metrics to
anybody. Nothing is told to BentoML's makers.
"""

import ctypes
import os
import signal
import sys

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

import bentoml
from starlette.applications import Starlette

from serving.settings import ServiceSettings
from serving.start import listening_address

SETTINGS = ServiceSettings.from_environment()


PR_SET_PDEATHSIG = 1
"""Of prctl: the signal that this process gets when its parent ends."""


class OwnApplication(bentoml.Service[object]):  # type: ignore[misc]  # BentoML keeps the types of its class to itself
    """A BentoML service whose ASGI application is ours."""

    def to_asgi(self, is_main: bool = True) -> Starlette:  # noqa: FBT001, FBT002 - the signature is BentoML's
        """Return the application that answers every path."""
        del is_main
        from serving.app import create_app
        from serving.observability import set_up_logging

        set_up_logging()
        _end_with_the_parent()
        # Processes that look at files load the main module again; BentoML's cannot be loaded so, and is of no use.
        sys.modules["__main__"].__file__ = None
        return create_app(SETTINGS)


@bentoml.service(
    name="tocsin",
    service_class=OwnApplication,
    # One process takes requests and starts those that score; `workers` of the settings says how many of these.
    workers=1,
    http={"host": listening_address(SETTINGS), "port": SETTINGS.port},
)
class Tocsin:
    """Scenes over HTTP; the application is `serving.app`."""


def _end_with_the_parent() -> None:
    """Let this process end when the one that BentoML started it from is killed: nothing goes on unwatched."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
