"""The process border of the command line: arguments in, exit code out, every failure in one shape."""

import json
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from types import FrameType

import typer

from tocsin.errors import InterruptedScoringError, RuntimeUnavailableError, TocsinError

INTERNAL_EXIT = 1
"""Exit code of a failure that no error of ours describes: a defect in tocsin."""

EXTRAS = {
    "anyio": "serve",
    "bentoml": "serve",
    "dask": "batch",
    "distributed": "batch",
    "fsspec": "batch",
    "httpx": "client",
    "lightning": "train",
    "onnx": "train",
    "onnxruntime": "cpu",
    "obstore": "batch",
    "onnxscript": "train",
    "opentelemetry": "serve",
    "peft": "train",
    "prometheus_client": "serve",
    "pyarrow": "batch",
    "platformdirs": "serve",
    "pytriton": "triton",
    "safetensors": "train",
    "starlette": "serve",
    "tensorrt": "tensorrt",
    "tensorrt_rtx": "tensorrt-rtx",
    "torch": "train",
    "torchmetrics": "train",
    "transformers": "train",
    "tritonclient": "triton",
    "yaml": "train",
}
"""The extra that brings a package, by import name."""


@dataclass(frozen=True)
class Failure:
    """What a failed command says: the object under ``error`` with ``--json``, one line on stderr without it."""

    code: str
    message: str
    given: str
    expected: str
    todo: str


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments after the program's name; those of the process by default.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with _sigterm_as_interrupt():
            return _run(arguments)
    except typer.Exit as done:
        return done.exit_code
    except BrokenPipeError:
        # The reader of stdout left (`tocsin models | head`); Python would complain again while flushing at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (KeyboardInterrupt, typer.Abort):
        stopped = InterruptedScoringError("an interrupt", "to run to the end", "run the command again")
        return _report(describe(stopped, arguments), stopped.exit_code, arguments)
    except Exception as error:  # noqa: BLE001 - the process border: whatever happens ends as an exit code and one message
        failure = describe(error, arguments)
        if not isinstance(error, TocsinError) and failure.code == "internal":
            traceback.print_exc(file=sys.stderr)
        return _report(failure, exit_code_of(error), arguments)


def _run(arguments: list[str]) -> int:
    from tocsin.cli.registry import root

    group = root()
    # Not group.main(): it would turn an interrupt into an exit code before we see it.
    with group.make_context("tocsin", arguments or ["--help"]) as context:
        group.invoke(context)
    sys.stdout.flush()
    return 0


def describe(error: Exception, arguments: Sequence[str]) -> Failure:
    """Return what to say about `error`; code ``internal`` when no error of ours fits."""
    if isinstance(error, TocsinError):
        return Failure(error.code, str(error), error.given, error.expected, error.todo)
    if isinstance(error, typer.TyperException):
        given = shlex.join(["tocsin", *arguments])
        expected = error.format_message().strip()
        return Failure("usage", expected, given, expected, f"read {_help_of(arguments)}")
    extra = EXTRAS.get((error.name or "").partition(".")[0]) if isinstance(error, ModuleNotFoundError) else None
    if extra is not None and isinstance(error, ModuleNotFoundError):
        missing = RuntimeUnavailableError(
            f"an environment without the package {error.name}", f"the extra {extra}", f"pip install 'tocsin[{extra}]'"
        )
        return describe(missing, arguments)
    said = f"{type(error).__name__}: {error}"
    return Failure("internal", said, said, "no such failure: this is a defect", "report it with the lines above")


def exit_code_of(error: Exception) -> int:
    """Return the exit code that belongs to `error`."""
    if isinstance(error, (TocsinError, typer.TyperException)):
        return error.exit_code
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in EXTRAS:
        return RuntimeUnavailableError.exit_code
    return INTERNAL_EXIT


def wants_json(arguments: Sequence[str]) -> bool:
    """Say whether these arguments ask for JSON, also when they cannot be parsed."""
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in own or os.environ.get("TOCSIN_JSON", "").lower() in {"1", "true", "yes", "on"}


def _report(failure: Failure, code: int, arguments: Sequence[str]) -> int:
    if wants_json(arguments):
        sys.stdout.write(json.dumps({**_status(code), "error": asdict(failure)}, ensure_ascii=False) + "\n")
        sys.stdout.flush()
    sys.stderr.write(f"tocsin: {failure.code}: {failure.message}\n")
    return code


def _status(code: int) -> dict[str, str]:
    """Return what an interrupted scoring says beside its error."""
    return {"status": "partial"} if code == InterruptedScoringError.exit_code else {}


def _help_of(arguments: Sequence[str]) -> str:
    command = next((word for word in arguments if not word.startswith("-")), None)
    return f"tocsin {command} --help" if command else "tocsin --help"


@contextmanager
def _sigterm_as_interrupt() -> Generator[None]:
    """Let SIGTERM end a scoring as Ctrl-C does: cleanly, with no partial product."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread (a test, an embedding program): the owner of the process decides
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
