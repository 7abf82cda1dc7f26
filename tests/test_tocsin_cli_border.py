"""Failures of every kind end as one message and one exit code."""

import json
import os
import signal
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import typer

from tocsin import __version__, errors
from tocsin.cli import border, main, registry


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., object]], None]:
    """Return what makes `tocsin flood` run another function."""

    def install(action: Callable[..., object]) -> None:
        point = SimpleNamespace(load=lambda: action)
        monkeypatch.setattr(registry, "_registered", lambda: {"flood": point})

    return install


def every_error() -> list[type[errors.TocsinError]]:
    """Return all children of the error tree."""
    return errors.TocsinError.__subclasses__()


def test_version(capsys: pytest.CaptureFixture[str]):
    """The version is printed on stdout, and nothing else."""
    assert main(["--version"]) == 0
    assert capsys.readouterr() == (f"tocsin {__version__}\n", "")


def test_no_argument_shows_help(capsys: pytest.CaptureFixture[str]):
    """Without a command the commands are listed."""
    assert main([]) == 0
    shown = capsys.readouterr().out
    for name in ("flood", "demo", "models", "doctor", "bench", "evaluate", "train", "export"):
        assert name in shown


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.code)
def test_every_error_has_its_exit_code_and_object(kind, command, capsys):
    """With --json stdout is one object with code, given, expected and todo, and the exit code is the table's."""

    def fail(json: bool = False) -> None:
        del json
        raise kind("a thing", "another", "do it")

    command(fail)
    assert main(["flood", "--json"]) == kind.exit_code
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["error"] == {
        "code": kind.code,
        "message": str(kind("a thing", "another", "do it")),
        "given": "a thing",
        "expected": "another",
        "todo": "do it",
    }
    assert (found.get("status") == "partial") == (kind.code == "interrupted")
    assert err == f"tocsin: {kind.code}: given a thing; expected another; do this: do it\n"


def test_without_json_stdout_stays_empty(command, capsys):
    """Without --json an error is one line on stderr."""

    def fail() -> None:
        raise errors.TooLargeError("much", "less", "cut it")

    command(fail)
    assert main(["flood"]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["flood", "a.tif", "--json"], "--out"),
        (["flood", "a.tif", "-o", "x", "--nonsense", "--json"], "--nonsense"),
        (["flood", "a.tif", "-o", "x", "--threshold", "high", "--json"], "--threshold"),
        (["flod", "--json"], "flod"),
        (["flood", "a.tif", "-o", "x", "--threshold", "1.5", "--json"], "--threshold 1.5"),
        (["flood", "a.tif", "-o", "x", "--device", "tpu", "--json"], "--device tpu"),
        (["flood", "a.tif", "-o", "x", "--runtime", "magic", "--json"], "--runtime magic"),
        (["flood", "a.tif", "-o", "x", "--datetime", "2024-05-31", "--json"], "--datetime"),
        (["flood", "a.tif", "-o", "x", "--units", "power", "--json"], "--units power"),
    ],
)
def test_usage_errors_are_json_too(arguments, said, capsys):
    """A wrong option or value exits 2 with code usage and names what was wrong."""
    assert main(arguments) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "usage"
    assert said in error["message"]


def test_json_can_come_from_the_environment(command, monkeypatch, capsys):
    """TOCSIN_JSON makes errors JSON as --json does."""

    def fail() -> None:
        raise errors.UsageError("a", "b", "c")

    command(fail)
    monkeypatch.setenv("TOCSIN_JSON", "1")
    assert main(["flood"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "usage"


def test_json_after_two_dashes_is_no_option(monkeypatch):
    """What follows -- is an argument, whatever it looks like."""
    monkeypatch.delenv("TOCSIN_JSON", raising=False)
    assert not border.wants_json(["flood", "--", "--json"])


def test_missing_package_names_its_extra(command, capsys):
    """A package that an extra brings is a runtime that is unavailable, not a traceback."""

    def fail() -> None:
        message = "No module named 'torch'"
        raise ModuleNotFoundError(message, name="torch.nn")

    command(fail)
    assert main(["flood"]) == errors.RuntimeUnavailableError.exit_code
    err = capsys.readouterr().err
    assert "tocsin[train]" in err
    assert "Traceback" not in err


def test_defect_is_reported_with_its_traceback(command, capsys):
    """An unforeseen failure exits 1 with code internal, its traceback on stderr."""

    def fail(json: bool = False) -> None:
        del json
        raise ZeroDivisionError

    command(fail)
    assert main(["flood", "--json"]) == border.INTERNAL_EXIT
    out, err = capsys.readouterr()
    assert json.loads(out)["error"]["code"] == "internal"
    assert "Traceback" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_interrupt(number, command, capsys):
    """SIGTERM ends a command as Ctrl-C does: exit 6, status partial."""

    def wait(json: bool = False) -> None:
        del json
        os.kill(os.getpid(), number)
        signal.sigtimedwait([], 5)

    command(wait)
    assert main(["flood", "--json"]) == 6
    found = json.loads(capsys.readouterr().out)
    assert found["status"] == "partial"
    assert found["error"]["code"] == "interrupted"


def test_sigterm_handler_is_put_back(command):
    """A program that calls main() keeps its own SIGTERM handler."""
    before = signal.getsignal(signal.SIGTERM)
    command(lambda: None)
    assert main(["flood"]) == 0
    assert signal.getsignal(signal.SIGTERM) is before


def test_command_may_be_an_app_or_a_function():
    """An entry point names a typer.Typer or a function; anything else is refused."""
    app = typer.Typer()
    app.command()(lambda: None)
    assert registry.as_command(app, "one").name == "one"
    assert registry.as_command(lambda: None, "two").name == "two"
    with pytest.raises(TypeError, match="three"):
        registry.as_command(3, "three")
