"""Logs: events with named values, on standard error.

A terminal gets coloured lines, anything else one JSON object per line; `ROOST_LOG=json` or
`=console` decides otherwise. What libraries say through `logging` passes the same way. Values
under a name that sounds like a secret, and passwords inside URLs, are replaced before anything is
written, here and nowhere else: a caller need not think of it, and must not rely on hiding things
inside longer texts.
"""

from __future__ import annotations

import logging
import re
import sys

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from roost.errors import Invalid

FORMATS = ("json", "console")
LEVELS = ("debug", "info", "warning", "error")

HIDDEN = "(hidden)"
_SECRET_NAME = re.compile(
    r"password|passwd|secret|token|authorization|cookie|credential|api_?key", re.IGNORECASE
)
_URL_PASSWORD = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s/:@]*):[^\s/@]+@", re.IGNORECASE)


def set_up(form: str = "", level: str = "info") -> None:
    """Send all logs to standard error. `form` is one of `FORMATS`, or empty to look at stderr.

    Raises `Invalid` for an unknown form or level.
    """
    if form and form not in FORMATS:
        raise Invalid(f"Log format {form!r} is none of {', '.join(FORMATS)}.")
    if level.lower() not in LEVELS:
        raise Invalid(f"Log level {level!r} is none of {', '.join(LEVELS)}.")
    as_json = form == "json" or (not form and not sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    last: list[Processor]
    if as_json:
        last = [structlog.processors.format_exc_info, hide_secrets]
        last.append(structlog.processors.JSONRenderer())
    else:
        last = [hide_secrets, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Libraries that tell every request or frame are asked only for what is wrong.
    for chatty in ("uvicorn", "websockets", "httpx2", "httpcore2", "alembic", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def hide_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The last step before writing: no value of a secret's name, no password inside a URL."""
    for name, value in event.items():
        if _SECRET_NAME.search(name):
            event[name] = HIDDEN
        elif isinstance(value, str):
            event[name] = _URL_PASSWORD.sub(r"\1:(hidden)@", value)
    return event
