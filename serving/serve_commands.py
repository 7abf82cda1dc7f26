"""`tocsin serve`: scenes over HTTP until SIGTERM."""

import logging
from typing import Annotated

import typer

from tocsin.cli import options as common
from tocsin.cli.output import set_up_logging

logger = logging.getLogger("tocsin")


def serve(
    host: Annotated[
        str | None,
        typer.Option(
            "--host",
            metavar="ADDRESS",
            envvar="TOCSIN_HOST",
            help="Address; every one once there is a token, else this machine only.",
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", metavar="PORT", envvar="TOCSIN_PORT", help="Port of HTTP; 3000 by default."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", metavar="N", envvar="TOCSIN_WORKERS", help="Scenes that are scored at a time; 1 by default."
        ),
    ] = None,
    model_repository: common.ModelRepository = None,
    runtime: common.Runtime = None,
    device: common.Device = None,
    precision: common.Precision = None,
    threads: common.Threads = None,
) -> None:
    """Serve scoring over HTTP until SIGTERM or Ctrl-C. Every setting: docs/service.md."""
    from serving.gate.tokens import any_token
    from serving.settings import ServiceSettings
    from serving.start import OPEN_NOTICE, become_the_service, listening_address

    set_up_logging(quiet=False)
    settings = ServiceSettings.from_environment(
        host=host,
        port=port,
        workers=workers,
        model_repository=model_repository,
        runtime=runtime,
        device=device,
        precision=precision,
        threads=threads,
    )
    where = f"http://{listening_address(settings)}:{settings.port}"
    logger.info("serving on %s; the API is described at %s/v1/openapi.json", where, where)
    if not any_token(settings):
        logger.warning(OPEN_NOTICE)
    become_the_service(settings)
