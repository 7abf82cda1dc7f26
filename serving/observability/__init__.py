"""What an ops room sees of the service while it runs: metrics, logs, traces, and whether it can score.

`Metrics` counts, `Observe` is the ASGI middleware that tells it of every request and writes the log's line of it,
`Tracing` sends spans where OTEL_EXPORTER_OTLP_ENDPOINT says, `Readiness` asks the models to judge a chip, and `probes`
answers /livez, /readyz and /metrics.
"""

from serving.observability.canary import ModelCanary
from serving.observability.logs import set_up_logging
from serving.observability.metrics import Metrics
from serving.observability.middleware import Observe
from serving.observability.readiness import Readiness
from serving.observability.tracing import Tracing

__all__ = ["Metrics", "ModelCanary", "Observe", "Readiness", "Tracing", "set_up_logging"]
