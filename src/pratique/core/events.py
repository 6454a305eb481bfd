"""Events: structured log lines with fields, one JSON object a line (or coloured text on a terminal).

Only entry points call `configure_events`; libraries call `get_logger` and nothing else. Request and conversation ids
ride in context variables (`bound_contextvars`), so that every event below carries them.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO, cast

import structlog
from structlog.contextvars import bound_contextvars

__all__ = ["bound_contextvars", "configure_events", "get_logger"]

_LOGGER = "pratique"


def configure_events(*, service: str, level: str = "info", stream: TextIO | None = None) -> None:
    """Send the events of this process to `stream` (standard error by default), each with the service's name."""
    target = stream or sys.stderr
    renderer: Any = structlog.dev.ConsoleRenderer() if target.isatty() else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(target),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(service=service)


def get_logger(room: str) -> structlog.typing.FilteringBoundLogger:
    """Return the logger of one room, for example `get_logger("sessions")`."""
    return cast("structlog.typing.FilteringBoundLogger", structlog.get_logger(f"{_LOGGER}.{room}", room=room))
