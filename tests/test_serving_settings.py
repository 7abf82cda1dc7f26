"""Settings of the service come from the environment, and docs/service.md holds them all."""

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
