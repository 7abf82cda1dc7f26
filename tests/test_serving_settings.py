"""Settings of the service come from the environment, and docs/service.md holds them all."""

import re
from pathlib import Path

import pytest

from tocsin.cli.config import VARIABLES
from tocsin.errors import UsageError

settings = pytest.importorskip("serving.settings", reason="needs the extra serve")
ServiceSettings = settings.ServiceSettings


def test_every_setting_has_a_variable():
    """A variable of every kind reaches its field: text, number, switch, list, secret."""
    found = ServiceSettings.from_environment(
        {
            "TOCSIN_RUNTIME": "grpc://triton:8001",
            "TOCSIN_PORT": "3100",
            "TOCSIN_METRICS_OPEN": "yes",
            "TOCSIN_ALLOWED_HOSTS": "data.example.org, other.example.org,",
            "TOCSIN_TOKENS": "one,two",
            "TOCSIN_STATE": "  ",
        }
    )
    assert (found.runtime, found.port, found.metrics_open) == ("grpc://triton:8001", 3100, True)
    assert found.allowed_hosts == ("data.example.org", "other.example.org")
    assert [each.get_secret_value() for each in found.tokens] == ["one", "two"]
    assert found.state == ServiceSettings().state


def test_what_is_given_by_name_wins():
    """A flag wins over the environment; a flag that was not given does not."""
    environment = {"TOCSIN_PORT": "3100", "TOCSIN_HOST": "127.0.0.2"}
    found = ServiceSettings.from_environment(environment, port=3200, host=None)
    assert (found.port, found.host) == (3200, "127.0.0.2")


def test_a_wrong_value_names_its_variable_and_hides_its_text():
    """A value out of bounds is a usage error that names the variable and not the value, which may be a secret."""
    with pytest.raises(UsageError) as refused:
        ServiceSettings.from_environment({"TOCSIN_PORT": "s3cret"})
    assert "TOCSIN_PORT" in str(refused.value)
    assert "s3cret" not in str(refused.value)


def test_tokens_are_never_printed():
    """Neither the text of the settings nor their JSON holds a token."""
    found = ServiceSettings.from_environment({"TOCSIN_TOKENS": "clear-token", "TOCSIN_WEBHOOK_SECRET": "clear-key"})
    assert "clear-" not in repr(found) + found.model_dump_json()


def test_every_variable_is_registered():
    """`tocsin doctor` knows every variable of the service, and knows none that it no longer has."""
    names = {settings.variable(name) for name in ServiceSettings.model_fields}
    of_the_service = {name for name, meaning in VARIABLES.items() if meaning == "setting of the service"}
    assert of_the_service <= names <= set(VARIABLES)


def rows(text, heading):
    """Return the first two cells of every row of the table under a heading of the document."""
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:3] == "| `"
    ]
    return {row[0].strip("`"): row for row in found}


def shown(field):
    """Return a default as the document writes it."""
    if field.default_factory is not None:
        return "`~/.local/state/tocsin`"
    if field.default is None or field.default == ():
        return ""
    return str(field.default).lower() if isinstance(field.default, bool) else f"{field.default}".removesuffix(".0")


def test_document_and_settings_agree(root: Path):
    """docs/service.md holds every setting with its default and its meaning, and no other."""
    table = rows((root / "docs/service.md").read_text(encoding="utf-8"), "Settings")
    fields = {settings.variable(name): field for name, field in ServiceSettings.model_fields.items()}
    assert set(table) == set(fields)
    for name, field in fields.items():
        assert table[name][1].replace(",", "") == shown(field), name
        assert table[name][2] == field.description.replace("None:", "none:"), name


def test_document_holds_every_code(root: Path):
    """docs/service.md lists every code under its status."""
    from serving.problems import ERRORS

    text = (root / "docs/service.md").read_text(encoding="utf-8")
    listed = {
        int(status): set(re.findall("`([a-z_]+)`", codes))
        for status, codes in re.findall(r"^\| (\d{3}) \| (.*) \|$", text, re.MULTILINE)
    }
    wanted = {}
    for code, kind in ERRORS.items():
        wanted.setdefault(kind.http_status, set()).add(code)
    assert listed == wanted


def test_document_holds_every_path(root: Path):
    """docs/service.md names every path of the OpenAPI document with its methods, and no other."""
    from serving.openapi import document

    text = (root / "docs/service.md").read_text(encoding="utf-8").partition("\n## Paths\n")[2].partition("\n## ")[0]
    listed = set()
    for cell in re.findall(r"^\| (`.*?`) \|", text, re.MULTILINE):
        words = re.findall(r"[^`, ]+", cell)
        methods = [word for word in words if word.isupper()]
        listed |= {(path, method.lower()) for path in words if path.startswith("/") for method in methods}
    wanted = {
        (path, method)
        for path, item in document(ServiceSettings()).get("paths").items()
        for method in item
        if method != "parameters"
    }
    assert listed == wanted
