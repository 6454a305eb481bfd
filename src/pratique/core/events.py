"""Events: structured log lines with fields, one JSON object a line (or coloured text on a terminal).

Only entry points call `configure_events`; libraries call `get_logger` and nothing else. Request and conversation ids
ride in context variables (`bound_contextvars`), so that every event below carries them.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, TextIO, cast

import structlog
from structlog.contextvars import bound_contextvars

from pratique.core.errors import CallerError

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

__all__ = ["bound_contextvars", "configure_events", "get_logger"]

_LOGGER = "pratique"


def configure_events(*, service: str, level: str = "info", stream: TextIO | None = None) -> None:
    """Send the events of this process to `stream` (standard error by default), each with the service's name.

    Raises:
        CallerError: there is no such level.
    """
    levels = logging.getLevelNamesMapping()
    if level.upper() not in levels:
        raise CallerError(f"Expected a log level such as 'info' or 'debug'; found '{level}'.")
    target = stream or sys.stderr

    def add_service(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        # Not a context variable: threads begin with an empty context, and their events belong to the service too.
        event["service"] = service
        return event

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            add_service,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *_renderers(target),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(levels[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(target),
        cache_logger_on_first_use=False,
    )


def _renderers(target: TextIO) -> list[Processor]:
    if target.isatty():
        return [structlog.dev.ConsoleRenderer()]  # shows exceptions itself
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


def get_logger(room: str) -> structlog.typing.FilteringBoundLogger:
    """Return the logger of one room, for example `get_logger("sessions")`."""
    return cast("structlog.typing.FilteringBoundLogger", structlog.get_logger(f"{_LOGGER}.{room}", room=room))
