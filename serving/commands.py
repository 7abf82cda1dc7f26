"""`tocsin triton`: start a server, and load or unload its models."""

import signal
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from tocsin.cli import options as common
from tocsin.cli.output import checked, emit, set_up_logging
from tocsin.errors import ModelInvalidError, ModelUnknownError, RuntimeUnavailableError, TocsinError

if TYPE_CHECKING:
    from tocsin.runtimes.triton_wire import HttpWire

triton = typer.Typer(add_completion=False, help="Serve the models with a Triton server.", no_args_is_help=False)

SETTLE_S = 15.0
"""How long a load is tried: a model that was just exported is seen by the launcher within seconds."""

Host = Annotated[str | None, typer.Option("--host", metavar="ADDRESS", help="Address; this machine only by default.")]
HttpPort = Annotated[int | None, typer.Option("--http-port", metavar="PORT", help="Port of HTTP; 8000 by default.")]
AdminKey = Annotated[
    Path | None,
    typer.Option(
        "--admin-key-file", metavar="FILE", help="Key without which models cannot be loaded nor memory be shared."
    ),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Model of the served repository.")]


@triton.callback(invoke_without_command=True)
def serve(
    context: typer.Context,
    host: Host = None,
    http_port: HttpPort = None,
    grpc_port: Annotated[
        int | None, typer.Option("--grpc-port", metavar="PORT", help="Port of gRPC; 8001 by default.")
    ] = None,
    metrics_port: Annotated[
        int | None, typer.Option("--metrics-port", metavar="PORT", help="Port of the metrics; 8002 by default.")
    ] = None,
    precision: common.Precision = None,
    model_repository: common.ModelRepository = None,
    threads: common.Threads = None,
    grpc_cert: Annotated[
        Path | None, typer.Option("--grpc-cert", metavar="FILE", help="Certificate for TLS on gRPC, PEM.")
    ] = None,
    grpc_key: Annotated[Path | None, typer.Option("--grpc-key", metavar="FILE", help="Its private key, PEM.")] = None,
    admin_key_file: AdminKey = None,
    json: common.Json = False,
) -> None:
    """Serve every model of the repository over KServe v2 until SIGTERM or Ctrl-C.

    Each model judges a chip every few seconds; one that does not answer is loaded anew, a server that ended is started
    anew. With --json every event is one line of JSON on stdout.
    """
    if context.invoked_subcommand is not None:
        return
    from serving import triton as launcher

    set_up_logging(quiet=False)
    options = checked(
        launcher.TritonOptions,
        host=host,
        http_port=http_port,
        grpc_port=grpc_port,
        metrics_port=metrics_port,
        precision=precision,
        model_repository=model_repository,
        threads=threads,
        grpc_cert=grpc_cert,
        grpc_key=grpc_key,
        admin_key_file=admin_key_file,
    )

    def tell(event: launcher.Event) -> None:
        emit(event, as_json=json, text=event.message)
        sys.stdout.flush()

    with stop_on_signal() as stop:
        launcher.serve(options, tell, stop)


@triton.command("load")
def load(
    name: Name,
    host: Host = None,
    http_port: HttpPort = None,
    admin_key_file: AdminKey = None,
    json: common.Json = False,
) -> None:
    """Load a model as it lies in the served repository now, anew when it is loaded."""
    from serving.triton import START_S

    with _control(host, http_port, admin_key_file) as wire:
        wire.index()
        until = time.monotonic() + SETTLE_S
        while True:
            try:
                wire.load(name, START_S)
                break
            except TocsinError as error:
                if time.monotonic() > until:
                    given = f"model {name!r} at {wire.where} ({error.given})"
                    expected = f"one of {', '.join(sorted(wire.index()))}, or one that loads"
                    kind = ModelInvalidError if name in wire.index() else ModelUnknownError
                    raise kind(given, expected, "see what tocsin triton says of it") from None
                time.sleep(1)
    emit({"model": name, "state": "loaded"}, as_json=json, text=f"{name} is loaded")


@triton.command("unload")
def unload(
    name: Name,
    host: Host = None,
    http_port: HttpPort = None,
    admin_key_file: AdminKey = None,
    json: common.Json = False,
) -> None:
    """Unload a model; the launcher leaves it unloaded."""
    with _control(host, http_port, admin_key_file) as wire:
        there = sorted(wire.index())
        if name not in there:
            raise ModelUnknownError(
                f"model {name!r} at {wire.where}", f"one of {', '.join(there)}", "name one of these"
            )
        wire.unload(name)
    emit({"model": name, "state": "unloaded"}, as_json=json, text=f"{name} is unloaded")


@contextmanager
def _control(host: str | None, http_port: int | None, admin_key_file: Path | None) -> Generator["HttpWire"]:
    """Yield a connection to a server that is running; say so when there is none."""
    from serving.triton import TritonOptions, read_admin_key
    from serving.triton_server import admin_header
    from tocsin.runtimes.triton_wire import Away, Endpoint, HttpWire

    options = checked(TritonOptions, host=host, http_port=http_port)
    where = Endpoint("http", options.host, options.http_port)
    wire = HttpWire(where, admin_header(read_admin_key(admin_key_file)))
    try:
        yield wire
    except Away as away:
        raise RuntimeUnavailableError(
            f"{where} ({away})", "a Triton server there", "start one with tocsin triton, or give its --http-port"
        ) from None
    finally:
        wire.close()


@contextmanager
def stop_on_signal() -> Generator[threading.Event]:
    """Yield an event that the first SIGTERM or Ctrl-C sets; a second one interrupts."""
    stop = threading.Event()

    def ask(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
