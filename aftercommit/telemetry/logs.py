"""Structured logs: a constant event name plus fields, JSON or console; never a payload, never a secret."""

import logging
import os
import sys
from typing import Any, Final, Literal

import structlog

# Without local variables: they hold payloads and passwords.
_EXCEPTIONS: Final = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)


def configure_logs(*, form: Literal["json", "console"], level: str) -> None:
    """Send structlog and the libraries' own logs to stderr in one form. Below ``level`` a call costs nothing."""
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        # A console is read as it runs, by somebody who knows the day and the time zone.
        structlog.processors.TimeStamper(fmt="iso", utc=True)
        if form == "json"
        else structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
    ]
    # `aftercommit dev` reads its roles through a pipe and writes to a terminal.
    coloured = sys.stderr.isatty() or "FORCE_COLOR" in os.environ
    renderer: list[Any] = (
        [_EXCEPTIONS, structlog.processors.JSONRenderer(default=str)]
        if form == "json"
        else [
            structlog.dev.ConsoleRenderer(
                colors=coloured, pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
            )
        ]
    )
    structlog.configure(
        processors=[*shared, *renderer],
        # Methods below the threshold are bound to a bare no-op.
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(threshold, logging.WARNING), force=True)
    # aiormq reports at error level what the roles catch and log themselves, once per reconnect.
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
