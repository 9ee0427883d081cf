"""Logs of every service: structlog, one set-up, one redaction of what must not be written."""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

_SECRET_KEY = re.compile(
    r"(password|passwd|secret|token|jwt|authorization|credential|private_key|cookie)", re.I
)
#: user:password@ in an address, Bearer tokens, and anything that looks like a JWT.
_IN_URL = re.compile(r"(?P<start>[a-z][a-z0-9+.-]*://[^\s/:@]*):[^\s/@]+@", re.I)
_BEARER = re.compile(r"(?i)\b(bearer)\s+[A-Za-z0-9._~+/=-]{8,}")
_JWT = re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*")
HIDDEN = "***"


def redact(text: str) -> str:
    """The text without passwords in addresses, bearer tokens and JWTs."""
    text = _IN_URL.sub(rf"\g<start>:{HIDDEN}@", text)
    text = _BEARER.sub(rf"\1 {HIDDEN}", text)
    return _JWT.sub(HIDDEN, text)


def clean(value: Any, key: str = "") -> Any:
    """A value fit for a log: what stands under a secret's name is hidden, at any depth."""
    if key and _SECRET_KEY.search(key) and value not in (None, "", False, True):
        return HIDDEN
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, bytes):
        return redact(value.decode(errors="replace"))
    if isinstance(value, dict):
        return {name: clean(inner, str(name)) for name, inner in value.items()}
    if isinstance(value, list | tuple | set):
        return [clean(inner) for inner in value]
    return value


def _redaction(
    logger: Any, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    del logger, method
    return {key: clean(value, key) for key, value in event.items()}


class _Redacted(logging.Formatter):
    """The libraries' own lines go through the same redaction."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def set_up(level: str = "INFO", format_: str = "console") -> None:
    """To stderr, for people or as JSON lines; call it once, at the start of a program."""
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if format_ == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            _redaction,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Redacted("%(asctime)s [%(levelname)s] %(name)s: %(message)s"))
    logging.basicConfig(
        level=max(logging.getLevelName(level), logging.INFO), handlers=[handler], force=True
    )
    for noisy in ("aiormq", "aio_pika", "httpx", "httpcore", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # It tells each failure in several lines of its own and raises it too; who catches it logs it.
    logging.getLogger("pika").setLevel(logging.CRITICAL)
