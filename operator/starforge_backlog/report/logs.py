"""Logs: one line per pass in plain words, as text or JSON, for our own loggers and kopf's alike."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO

import structlog

from starforge_backlog.settings import LogFormat

MASK = "***"
# Second line of defence: nothing logs a URL with credentials on purpose, but an exception of some
# library may quote one.
_CREDENTIALS = (
    # Up to the last @ of the word: passwords that were not escaped hold some.
    (re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*://[^\s:/@]*):\S+@"), rf"\1:{MASK}@"),
    (
        re.compile(r"(?i)(password|passwd|pwd)(['\"]?\s*[=:]\s*)('[^']*'|\"[^\"]*\"|[^\s,;&)}]+)"),
        rf"\1\2{MASK}",
    ),
    (
        re.compile(r"(?i)(authorization['\"]?\s*[:=]\s*['\"]?(?:bearer|basic)\s+)[^\s'\"]+"),
        rf"\1{MASK}",
    ),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+"), MASK),  # a ServiceAccount's token
)
# kopf says of every event of every object that its handler succeeded; a pass says it better.
_NOISE = re.compile(r"^(Timer|Daemon|Handler) .* succeeded\.$")
# Libraries whose INFO is about themselves: every connection, every response.
_QUIET = ("aiohttp.access", "asyncio", "kubernetes", "urllib3")

# ... and whose DEBUG is about each event of each object.
_NOT_IN_DETAIL = ("kopf",)

Event = MutableMapping[str, Any]


def redact(text: str) -> str:
    """Mask passwords in URLs, in connection strings and in authorization headers."""
    for pattern, replacement in _CREDENTIALS:
        text = pattern.sub(replacement, text)
    return text


def configure(
    log_format: LogFormat, *, level: int = logging.INFO, stream: TextIO | None = None
) -> None:
    """Route structlog and the standard library through one renderer. Called once, at the start."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _object_of_kopf,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            _redact_event,
            _renderer(log_format),
        ],
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(formatter)
    handler.addFilter(_is_worth_a_line)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    for name in _NOT_IN_DETAIL:
        logging.getLogger(name).setLevel(max(level, logging.INFO))


def _renderer(log_format: LogFormat) -> structlog.typing.Processor:
    if log_format is LogFormat.JSON:
        return structlog.processors.JSONRenderer(ensure_ascii=False)
    # Exceptions are text by now (they had to be, to be redacted), so the plain formatter serves.
    return structlog.dev.ConsoleRenderer(
        colors=False, pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
    )


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    if record.levelno > logging.INFO or not record.name.startswith("kopf"):
        return True
    return _NOISE.match(record.getMessage()) is None


def _object_of_kopf(_logger: Any, _method: str, event: Event) -> Event:
    """kopf carries the object of a message beside it; show it as our own lines do."""
    record = event.get("_record")
    reference = getattr(record, "k8s_ref", None)
    if isinstance(reference, Mapping) and reference.get("name"):
        event["policy"] = f"{reference.get('namespace')}/{reference['name']}"
    return event


def _redact_event(_logger: Any, _method: str, event: Event) -> Event:
    for key, value in event.items():
        event[key] = _redacted(value)
    return event


def _redacted(value: Any) -> Any:
    """Strings at any depth; anything that is no plain value is shown, and masked, as text."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {key: _redacted(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_redacted(item) for item in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return redact(str(value))
