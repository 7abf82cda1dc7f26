"""The list of options is frozen in docs/cli.md."""

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tocsin.cli import registry

ANYWHERE = SimpleNamespace(resilient_parsing=True)


def live_options(path: str, command: Any) -> Iterator[tuple[str, frozenset[tuple[str, str]]]]:
    """Yield each command's path with its option names and environment variables."""
    children = getattr(command, "commands", {})
    for name, child in children.items():
        yield from live_options(f"{path} {name}", child)
    if not children or command.invoke_without_command:
        options = [each for each in command.params if each.param_type_name == "option" and each.name != "help"]
        found = {(max(each.opts, key=len), each.envvar or "") for each in options}
        yield path, frozenset(found)


def documented_options(text: str) -> dict[str, frozenset[tuple[str, str]]]:
    """Return the option names and environment variables of each section of the document."""
    sections = {}
    for section in text.split("\n## ")[1:]:
        rows = re.findall(r"^\| `(--[a-z0-9-]+)`[^|]*\| *(?:`(\w+)`)? *\|", section, re.MULTILINE)
        sections[section.partition("\n")[0]] = frozenset(rows)
    return sections


def test_document_and_commands_agree(root: Path):
    """Every option and its environment variable stands in docs/cli.md, and nothing else does."""
    group = registry.root()
    live: dict[str, frozenset[tuple[str, str]]] = {}
    for name in group.list_commands(None):
        live.update(live_options(f"tocsin {name}", group.get_command(ANYWHERE, name)))
    assert documented_options((root / "docs/cli.md").read_text(encoding="utf-8")) == live


def test_contract_options_are_there():
    """`tocsin flood` takes every input and every common option that users were promised."""
    command = registry.root().get_command(ANYWHERE, "flood")
    flags = {flag for each in command.params for flag in each.opts}
    inputs = {"--pre", "--reference-water", "--dem", "--exclude", "--units"}
    common = {"-o", "--out", "--model-repository", "--runtime", "--device", "--precision", "--overlap", "--threshold"}
    more = {"--aoi", "--datetime", "--overwrite", "--dry-run", "--json", "--quiet", "--gpkg"}
    assert flags >= inputs | common | more
