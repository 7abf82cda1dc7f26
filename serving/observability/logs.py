"""One JSON object a line on stderr, each with the id of its request, so that one `grep` tells what happened to it."""

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final

from opentelemetry import trace

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Of the request that is being answered; carried into threads and tasks that it starts."""

QUIET: Final = ("uvicorn.access", "bentoml.access", "httpx", "httpcore")
"""Loggers whose lines ours replace, or which tell no more than they."""

_KNOWN: Final = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "color_message"})


class JsonFormatter(logging.Formatter):
    """Writes time, level, logger, message, request id, trace, and what a caller gave as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; it never fails, whatever was logged."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (found := request_id.get()) is not None:
            line["request_id"] = found
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            line |= {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}
        line |= {name: value for name, value in vars(record).items() if name not in _KNOWN}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def set_up_logging(level: int | str = logging.INFO) -> None:
    """Send every log of the process to stderr as JSON, from `level` on.

    Parameters
    ----------
    level
        Name or number of the lowest level that is written.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in list(logging.root.manager.loggerDict):
        logger = logging.getLogger(name)
        if logger.handlers:
            logger.handlers = []
            logger.propagate = True
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
