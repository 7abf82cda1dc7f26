"""Precedence of options: flag, then environment, then file."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated

import pytest
import typer

from tocsin.cli import config, main, registry
from tocsin.cli.options import Device, Overlap, Quiet


def show(overlap: Overlap = None, device: Device = None, quiet: Quiet = False) -> None:
    """Print what arrived."""
    print(json.dumps({"overlap": overlap, "device": device, "quiet": quiet}))  # noqa: T201


@pytest.fixture
def seen(monkeypatch, tmp_path, capsys) -> Callable[..., dict[str, object]]:
    """Return what runs `tocsin show` in an empty folder and returns its options."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_registered", lambda: {"show": SimpleNamespace(load=lambda: show)})

    def run(*arguments: str) -> dict[str, object]:
        assert main(["show", *arguments]) == 0
        found: dict[str, object] = json.loads(capsys.readouterr().out)
        return found

    return run


def test_nothing_given_leaves_the_models_default(seen):
    """Without flag, variable and file an option is None, so that the options model decides."""
    assert seen() == {"overlap": None, "device": None, "quiet": False}


def test_file_is_used(seen, tmp_path: Path):
    """A table named after the command and common options at the top level set defaults."""
    (tmp_path / "tocsin.toml").write_text('device = "cpu"\n[show]\noverlap = 16\n')
    assert seen() == {"overlap": 16, "device": "cpu", "quiet": False}


def test_table_wins_over_common_option(seen, tmp_path: Path):
    """What is said for a command wins over what is said for all."""
    (tmp_path / "tocsin.toml").write_text("overlap = 8\n[show]\noverlap = 16\n")
    assert seen()["overlap"] == 16


def test_environment_wins_over_file(seen, tmp_path: Path, monkeypatch):
    """A TOCSIN_ variable wins over the file."""
    (tmp_path / "tocsin.toml").write_text("overlap = 8\nquiet = false\n")
    monkeypatch.setenv("TOCSIN_OVERLAP", "32")
    monkeypatch.setenv("TOCSIN_QUIET", "1")
    assert seen() == {"overlap": 32, "device": None, "quiet": True}


def test_flag_wins_over_all(seen, tmp_path: Path, monkeypatch):
    """A flag wins over variable and file."""
    (tmp_path / "tocsin.toml").write_text("overlap = 8\n")
    monkeypatch.setenv("TOCSIN_OVERLAP", "32")
    assert seen("--overlap", "0")["overlap"] == 0


def test_file_may_be_named(seen, tmp_path: Path, monkeypatch):
    """TOCSIN_CONFIG names another file, and dashes in keys read as underscores."""
    (tmp_path / "other.toml").write_text('model-repository = "x"\noverlap = 4\n')
    monkeypatch.setenv("TOCSIN_CONFIG", str(tmp_path / "other.toml"))
    assert seen()["overlap"] == 4


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("overlp = 8\n", "overlp"),
        ("[show]\noverlp = 8\n", "overlp"),
        ("[show]\npost = 8\n", "post"),
        ("[show\n", "TOML"),
    ],
)
def test_unknown_keys_are_refused(content, said, seen, tmp_path: Path, capsys):
    """A key that is no option is an error that names it."""
    del seen
    (tmp_path / "tocsin.toml").write_text(content)
    assert main(["show"]) == 2
    assert said in capsys.readouterr().err


def test_missing_named_file_is_refused(seen, monkeypatch, capsys):
    """TOCSIN_CONFIG has to name a file."""
    del seen
    monkeypatch.setenv("TOCSIN_CONFIG", "nowhere.toml")
    assert main(["show"]) == 2
    assert "nowhere.toml" in capsys.readouterr().err


def test_groups_read_nested_tables(tmp_path: Path, monkeypatch):
    """A sub-command has a table of its own inside its group's, and takes common options."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tocsin.toml").write_text('device = "cuda"\n[group.show]\noverlap = 3\n')
    app = typer.Typer()
    app.callback()(lambda: None)
    app.command("show")(show)
    defaults = config.defaults_for(registry.as_command(app, "group"), "group")
    assert defaults["show"] == {"device": "cuda", "overlap": 3}


def test_common_options_are_options_of_a_scoring():
    """What may stand at the top level of the file is an option of `tocsin flood`, with its variable documented."""
    command = registry.root().get_command(SimpleNamespace(resilient_parsing=True), "flood")
    options = {each.name: each for each in command.params}
    assert set(options) >= config.COMMON
    for name in config.COMMON:
        assert options[name].envvar == f"TOCSIN_{name.upper()}"
        assert options[name].envvar in config.VARIABLES


def test_positional_arguments_are_no_keys():
    """An argument of a command cannot come from the file."""

    def one(post: Annotated[str, typer.Argument()]) -> None:
        del post

    command = registry.as_command(one, "one")
    assert config.defaults_for(command, "one") == {}
