"""How the service is started: where it may listen, and as which process."""

import ipaddress
import os
import sys
from pathlib import Path
from typing import Final, NoReturn

import serving
from serving.gate.tokens import any_token
from serving.settings import EVERY_ADDRESS, LOOPBACK, ServiceSettings, variable
from tocsin.errors import UsageError

GRACE_S: Final = 20
"""How long requests may go on after SIGTERM."""
TARGET: Final = "serving.service:Tocsin"

OPEN_NOTICE: Final = (
    "no token is known, so only this machine is served, and it needs none; "
    "make one with `tocsin token new NAME`, or set TOCSIN_TOKENS"
)


def listening_address(settings: ServiceSettings) -> str:
    """Return the address that is listened on.

    Raises
    ------
    UsageError
        Others than this machine would be served without a token, or the address is none.
    """
    known = any_token(settings)
    host = settings.host or (EVERY_ADDRESS if known else LOOPBACK)
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError as error:
        raise UsageError(f"host {host}", f"an address such as {LOOPBACK}", "give an address, not a name") from error
    if not known and not is_loopback:
        raise UsageError(
            f"host {host} and no token",
            f"a token, or {LOOPBACK}, so that nobody else is let in",
            "make a token with `tocsin token new NAME`, or set TOCSIN_TOKENS",
        )
    return host


def become_the_service(settings: ServiceSettings) -> NoReturn:
    """Replace this process by the BentoML service: its signals and its exit code are the service's own."""
    told = {"port": settings.port, "workers": settings.workers, "runtime": settings.runtime, "device": settings.device}
    told |= {"precision": settings.precision, "state": settings.state.absolute()}
    if settings.model_repository is not None:
        told["model_repository"] = settings.model_repository.absolute()
    if settings.threads is not None:
        told["threads"] = settings.threads
    host = listening_address(settings)
    environment = {
        **os.environ,
        **{variable(name): str(value) for name, value in told.items()},
        variable("host"): host,
        "BENTOML_DO_NOT_TRACK": "True",
        # What BentoML keeps for itself, so that nothing but the state folder is written to.
        "BENTOML_HOME": os.environ.get("BENTOML_HOME", str(settings.state.absolute() / "bentoml")),
    }
    command = [sys.executable, "-m", "bentoml", "serve", TARGET]
    command += ["--working-dir", str(Path(serving.__file__).resolve().parent.parent)]
    command += ["--host", host, "--port", str(settings.port), "--timeout-graceful-shutdown", str(GRACE_S)]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(command[0], command, environment)  # noqa: S606 - our own interpreter, no shell
