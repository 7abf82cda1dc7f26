"""OpenTelemetry spans, sent where OTEL_EXPORTER_OTLP_ENDPOINT says; without it the SDK is not loaded, nothing is sent.

The variables of OpenTelemetry hold (OTEL_SERVICE_NAME, OTEL_EXPORTER_OTLP_HEADERS, OTEL_TRACES_SAMPLER, ...); the
protocol is http/protobuf.
"""

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import tocsin
from tocsin.errors import UsageError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
SPOKEN: Final = "http/protobuf"


class Tracing:
    """Makes spans, and sends them when the environment says where to.

    Parameters
    ----------
    environment
        Of the process.
    exporter
        Where spans go, in place of the network; for tests.

    Raises
    ------
    UsageError
        A protocol is asked for that is not spoken.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ, *, exporter: "SpanExporter | None" = None) -> None:
        self._provider: TracerProvider | None = None
        wanted = any(environment.get(name) for name in ENDPOINTS) or exporter is not None
        if not wanted or environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
            return
        protocol = next((environment[name] for name in PROTOCOLS if environment.get(name)), SPOKEN)
        if protocol != SPOKEN:
            raise UsageError(f"the OTLP protocol {protocol}", SPOKEN, f"unset {' and '.join(PROTOCOLS)}")
        self._provider = _provider(environment, exporter)

    @property
    def active(self) -> bool:
        """Whether spans are sent."""
        return self._provider is not None

    @contextmanager
    def span(self, name: str, parent: Mapping[str, str] | None = None) -> Generator[trace.Span]:
        """Trace the block; an exception that leaves it marks the span as failed.

        Parameters
        ----------
        name
            From a closed list, as "POST /v1/flood".
        parent
            Holds the `traceparent` of a caller, as headers or a job do; None: part of the span around the block.
        """
        made = trace.NoOpTracer() if self._provider is None else self._provider.get_tracer("tocsin", tocsin.__version__)
        context = None if parent is None else TraceContextTextMapPropagator().extract(dict(parent))
        with made.start_as_current_span(name, context=context, kind=trace.SpanKind.SERVER) as span:
            yield span

    def close(self) -> None:
        """Send what is left, and stop."""
        if self._provider is not None:
            self._provider.shutdown()
            self._provider = None


def traceparent() -> dict[str, str]:
    """Return the place of the current span as W3C Trace Context, for whoever goes on with the work, if there is one."""
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier


def _provider(environment: Mapping[str, str], exporter: "SpanExporter | None") -> "TracerProvider":
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

    name = environment.get("OTEL_SERVICE_NAME") or "tocsin"
    # Not the global provider: that one belongs to whoever embeds the service.
    made = TracerProvider(resource=Resource.create({"service.name": name, "service.version": tocsin.__version__}))
    made.add_span_processor(
        SimpleSpanProcessor(exporter) if exporter is not None else BatchSpanProcessor(OTLPSpanExporter())
    )
    return made
