"""One pipeline for every log line, ours and the libraries', with secrets taken out on the way."""

import logging
import re
import sys
from collections.abc import Mapping
from typing import Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

REDACTED = "[redacted]"

_SECRET_NAMES = re.compile(
    r"password|passwd|secret|authorization|api_?key|cookie|bearer|private_?key|session_?token|access_?token",
    re.IGNORECASE,
)
_EMAIL_NAMES = frozenset({"email", "recipient", "mail_to", "rcpt"})
_API_KEY = re.compile(r"\btm_[A-Za-z0-9_\-.]{6,}|tm_[A-Za-z0-9_\-]{20,}")
_SECRET_TEXTS = (
    (_API_KEY, f"tm_{REDACTED}"),
    (re.compile(r"whsec_[A-Za-z0-9+/=_\-]{6,}"), f"whsec_{REDACTED}"),
    (re.compile(r"/(join|unsubscribe)/[A-Za-z0-9_\-]{16,}"), rf"/\1/{REDACTED}"),
    (re.compile(r"(__Host-[a-z-]+=)[^\s;,'\"]+"), rf"\1{REDACTED}"),
    (re.compile(r"\b[0-9A-Z]{5}(?:-[0-9A-Z]{5}){3}\b"), f"{REDACTED} recovery code"),
    (re.compile(r"(?<=:)[A-Za-z0-9+/]{43}=(?![A-Za-z0-9+/=])"), REDACTED),
    (re.compile(r"(://[^\s/:@]*:)[^\s@/]+@"), rf"\1{REDACTED}@"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=\-]{6,}"), rf"\1 {REDACTED}"),
    (re.compile(r"(?i)\b(password|api_key|token)=[^\s&'\"]+"), rf"\1={REDACTED}"),
    (re.compile(r"[A-Za-z0-9._%+\-]+@[A-Za-z0-9\-]+(?:\.[A-Za-z0-9\-]+)+"), "[e-mail address]"),
)
# Libraries whose informational lines are noise beside ours.
_QUIETER = {
    "aiosmtpd": logging.WARNING,
    "alembic.runtime.plugins": logging.WARNING,
    "httpcore2": logging.WARNING,
    "httpx2": logging.WARNING,
    "mail.log": logging.WARNING,
    "uvicorn.access": logging.WARNING,
}


def configure_logs(*, log_format: Literal["json", "console"], log_level: str) -> None:
    """Send structlog and the standard library's logging through one pipeline to standard error.

    Called once by a program's entry point. uvicorn must be run with `log_config=None`, or it brings its own.
    """
    level = logging.getLevelNamesMapping()[log_level.upper()]
    structlog.configure(
        processors=[*_shared(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    stream = logging.StreamHandler(sys.stderr)
    stream.setFormatter(_formatter(log_format))
    root = logging.getLogger()
    root.handlers[:] = [stream]
    root.setLevel(level)
    for name, quieter in _QUIETER.items():
        logging.getLogger(name).setLevel(max(level, quieter))


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Take API keys, passwords, authorization headers and e-mail addresses out of a log line."""
    for name in list(event):
        event[name] = _without_secrets(name, event[name])
    return event


def redact_text(text: str) -> str:
    """Take what looks like a secret out of a text."""
    for pattern, instead in _SECRET_TEXTS:
        text = pattern.sub(instead, text)
    return text


def redact_keys(text: str) -> str:
    """Take API keys, or what looks like them, out of a text that goes back to whoever sent it."""
    return _API_KEY.sub(f"tm_{REDACTED}", text)


def _without_secrets(name: str, value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if _SECRET_NAMES.search(name) or name in _EMAIL_NAMES:
        return REDACTED
    if isinstance(value, Mapping):
        return {str(key): _without_secrets(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_without_secrets("", item) for item in value]
    return redact_text(value if isinstance(value, str) else str(value))


def _shared() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        _drop_repeated_message,
        redact,
    ]


def _drop_repeated_message(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Drop uvicorn's second, colored copy of its message."""
    event.pop("color_message", None)
    return event


def _formatter(log_format: str) -> structlog.stdlib.ProcessorFormatter:
    renderer: Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_shared(),
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )
