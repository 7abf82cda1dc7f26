"""Options from a file: the last to be asked, after a flag and after the environment.

The file is ``tocsin.toml`` in the working directory, or the one that TOCSIN_CONFIG names. A key at the top level is a
common option of every command that has it; a table is a command::

    device = "cpu"

    [flood]
    overlap = 64
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tocsin.errors import UsageError

ENVIRONMENT = "TOCSIN_CONFIG"
FILE = Path("tocsin.toml")

COMMON = frozenset(
    {
        "model_repository",
        "runtime",
        "device",
        "precision",
        "threads",
        "overlap",
        "threshold",
        "overwrite",
        "quiet",
        "service",
    }
)
"""Options that may stand at the top level of the file."""

SERVICE = (
    "allowed_buckets",
    "allowed_hosts",
    "allowed_roots",
    "cancel_grace_s",
    "deadline_s",
    "direct_megapixels",
    "fetch_timeout_s",
    "host",
    "inspect_timeout_s",
    "job_attempts",
    "job_deadline_s",
    "job_store",
    "job_ttl_s",
    "max_bands",
    "max_body_bytes",
    "max_compression_ratio",
    "max_pixels",
    "metrics_open",
    "port",
    "public_url",
    "queue_length",
    "reference_ca",
    "reference_networks",
    "runtime_patience_s",
    "shared_memory",
    "sync_wait_s",
    "token_jobs",
    "token_requests_per_minute",
    "upload_idle_s",
    "webhook_hosts",
    "webhook_secret",
    "worker_memory_bytes",
    "workers",
)
"""Settings that only the service takes from the environment; docs/service.md says what each means."""

VARIABLES = {
    ENVIRONMENT: "configuration file; tocsin.toml in the working directory without it",
    "TOCSIN_DATA": "folder of the public data sets, for training and tests",
    "TOCSIN_ENGINES": "folder of TensorRT engines, for building and for scoring",
    "TOCSIN_JSON": "as --json",
    "TOCSIN_STATE": "folder of jobs and caches of the service",
    "TOCSIN_TOKEN": "token that a client sends to a service",
    "TOCSIN_TRITON_CA": "authorities that a grpcs:// server is checked against, PEM; the system's by default",
    "TOCSIN_TOKENS": "clear tokens of the service, separated by commas",
    **{f"TOCSIN_{name.upper()}": f"as --{name.replace('_', '-')}" for name in sorted(COMMON)},
    **{f"TOCSIN_{name.upper()}": "setting of the service" for name in SERVICE},
}
"""Environment variables that tocsin reads."""


def config_path() -> Path | None:
    """Return the configuration file in force, or None.

    Raises
    ------
    UsageError
        TOCSIN_CONFIG names no file.
    """
    named = os.environ.get(ENVIRONMENT)
    if named is None:
        return FILE if FILE.is_file() else None
    if not Path(named).is_file():
        raise UsageError(f"{ENVIRONMENT}={named}, which is no file", "a TOML file", f"mend or unset {ENVIRONMENT}")
    return Path(named)


def read_config() -> dict[str, Any]:
    """Return the configuration file's content, empty without a file.

    Raises
    ------
    UsageError
        The file cannot be read, or is no TOML.
    """
    path = config_path()
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} ({error})", "a readable TOML file", "mend it or move it away") from error


def defaults_for(command: Any, name: str) -> dict[str, Any]:
    """Return the defaults that the configuration file sets for a command and its sub-commands.

    Parameters
    ----------
    command : typer's Command
        The command, with its parameters and, for a group, its sub-commands.
    name : str
        Its name, which is also its table in the file.

    Raises
    ------
    UsageError
        A key is no option of the command, or a key at the top level is no common option.
    """
    content = read_config()
    common = {_snake(key): value for key, value in content.items() if not isinstance(value, dict)}
    for key in common:
        if key not in COMMON:
            expected = f"a common option ({', '.join(sorted(COMMON))}) or a table named after a command"
            raise UsageError(f"key {key!r} in {config_path()}", expected, "mend or remove it")
    section = content.get(name, {})
    return _merge(command, section if isinstance(section, dict) else {}, common, name)


def _merge(command: Any, section: Mapping[str, Any], common: Mapping[str, Any], where: str) -> dict[str, Any]:
    options = {each.name for each in command.params if each.param_type_name == "option"}
    children = getattr(command, "commands", {})
    merged = {key: value for key, value in common.items() if key in options}
    for raw, value in section.items():
        key = _snake(raw)
        if raw in children and isinstance(value, dict):
            continue
        if key not in options:
            known = ", ".join(sorted({*options, *children})) or "no option at all"
            raise UsageError(f"key {raw!r} of [{where}] in {config_path()}", known, "mend or remove it")
        merged[key] = value
    for name, child in children.items():
        merged[name] = _merge(child, section.get(name, {}), common, f"{where}.{name}")
    return merged


def _snake(key: str) -> str:
    return key.replace("-", "_")
