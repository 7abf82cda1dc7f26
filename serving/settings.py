"""Every setting of the service, in one model: its defaults, its bounds, and the environment variable of each.

The variable of a field is its name in capitals after ``TOCSIN_``: `queue_length` is TOCSIN_QUEUE_LENGTH. Lists are
separated by commas. docs/service.md holds the table; a test compares it with this model.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, get_origin

from platformdirs import user_state_path
from pydantic import Field, SecretStr, ValidationError

from tocsin.errors import UsageError
from tocsin.runtimes import RuntimeOptions

PREFIX: Final = "TOCSIN_"
EVERY_ADDRESS: Final = "0.0.0.0"  # noqa: S104 - the host that a service with tokens listens on
LOOPBACK: Final = "127.0.0.1"


class ServiceSettings(RuntimeOptions):
    """Everything that the service can be told; the first fields say what runs the graphs."""

    model_repository: Path | None = Field(default=None, description="folder of models; none: the shipped one")
    host: str | None = Field(
        default=None, description="address that is listened on; none: every one with tokens, else this machine only"
    )
    port: int = Field(default=3000, ge=1, le=65535, description="port of HTTP")
    public_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s?#]+$",
        description="where clients find the service, before /v1, in links; none: links without a host",
    )
    state: Path = Field(
        default_factory=lambda: user_state_path("tocsin"), description="folder of jobs, products and tokens"
    )
    job_store: str | None = Field(
        default=None, description="URL of the job store (redis:// or postgresql://); none: an SQLite file in the state"
    )
    workers: int = Field(default=1, ge=1, le=64, description="scenes that are scored at a time")
    queue_length: int = Field(default=100, ge=1, le=100_000, description="jobs that may wait; more are refused")
    job_ttl_s: float = Field(
        default=86_400.0, gt=0, description="seconds after its end that a job and its products are kept"
    )
    job_attempts: int = Field(
        default=3,
        ge=1,
        le=10,
        description="how often a job is begun, when processes die under it, before it has failed",
    )
    job_deadline_s: float = Field(default=3600.0, gt=0, description="seconds that one attempt at a job may take")
    runtime_patience_s: float = Field(
        default=30.0, ge=0, description="seconds in which a job tries a runtime again that is away"
    )
    cancel_grace_s: float = Field(
        default=5.0, ge=0, description="seconds after a cancel until a worker that still goes on is killed"
    )
    worker_memory_bytes: int | None = Field(
        default=None, ge=1 << 28, description="memory of a worker; none: its share of three quarters of the machine's"
    )
    sync_wait_s: float = Field(
        default=30.0, ge=0, le=600, description="seconds that a request waits for a small scene before it gets a job"
    )
    direct_megapixels: float = Field(
        default=4.0, ge=0, description="scenes up to this size answer at once, larger ones with a job"
    )
    max_pixels: int = Field(default=1_000_000_000, ge=1, description="pixels of a scene; more are refused")
    max_bands: int = Field(default=16, ge=2, description="bands of a file; more are refused")
    max_compression_ratio: float = Field(
        default=200.0, ge=1, description="decoded bytes over stored ones, from 64 MiB on; a higher ratio is refused"
    )
    max_body_bytes: int = Field(default=8 << 30, ge=1, description="bytes of one request; more are refused")
    upload_idle_s: float = Field(default=60.0, gt=0, description="seconds that an upload may stand still")
    fetch_timeout_s: float = Field(
        default=900.0, gt=0, description="seconds in which all references of a request are fetched"
    )
    inspect_timeout_s: float = Field(
        default=30.0, gt=0, description="seconds in which the headers of a request are read"
    )
    token_jobs: int = Field(default=20, ge=1, description="jobs waiting or running that one token may have")
    token_requests_per_minute: int = Field(default=600, ge=1, description="requests a minute that one token may make")
    tokens: tuple[SecretStr, ...] = Field(
        default=(), description="clear tokens, beside those of `tocsin token`; for containers"
    )
    allowed_hosts: tuple[str, ...] = Field(
        default=(), description="hosts that references (https, STAC) may name; none: no reference is fetched"
    )
    allowed_buckets: tuple[str, ...] = Field(default=(), description="buckets that s3:// references may name")
    allowed_roots: tuple[str, ...] = Field(
        default=(), description="prefixes of URLs, more exact than a host or bucket, that references may name"
    )
    reference_networks: tuple[str, ...] = Field(
        default=(), description="private networks, as 10.1.0.0/16, that references may lead to; public ones always may"
    )
    reference_ca: Path | None = Field(
        default=None, description="authorities that https references are checked against, PEM; none: the public ones"
    )
    webhook_hosts: tuple[str, ...] = Field(default=(), description="hosts that a webhook may call")
    webhook_secret: SecretStr | None = Field(default=None, description="key that signs webhooks; none: no webhooks")
    metrics_open: bool = Field(default=False, description="/metrics needs no token")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ, **given: Any) -> "ServiceSettings":  # noqa: ANN401 - fields, which the model checks
        """Return the settings that the environment holds; what is given by name wins, None aside.

        Raises
        ------
        UsageError
            A value is out of bounds; the message names its variable.
        """
        found: dict[str, Any] = {
            name: _split(text) if get_origin(field.annotation) is tuple else text
            for name, field in cls.model_fields.items()
            if (text := environment.get(variable(name), "").strip())
        }
        try:
            return cls.model_validate(found | {name: value for name, value in given.items() if value is not None})
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            name = variable(str(first["loc"][0]))
            raise UsageError(f"{name}, whose value is wrong", str(first["msg"]), f"mend or unset {name}") from error

    def runtime_fields(self) -> dict[str, Any]:
        """Return the fields of `ScoringOptions` that the operator chooses for every scoring."""
        return {name: getattr(self, name) for name in (*RuntimeOptions.model_fields, "model_repository")}


def variable(field: str) -> str:
    """Return the environment variable of a field."""
    return PREFIX + field.upper()


def _split(text: str) -> tuple[str, ...]:
    return tuple(part for each in text.split(",") if (part := each.strip()))
