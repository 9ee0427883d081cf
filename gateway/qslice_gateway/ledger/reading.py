"""Reading what others wrote, so that it can be stored: pure.

PostgreSQL's text and jsonb hold neither NUL characters nor lone surrogates, and JSON written by
other programs holds both, and NaN, and nests as deep as it likes.
"""

import json
import math
from typing import Any

import orjson

#: Levels of lists and objects that are kept.
MAX_DEPTH = 100
#: What stands in the place of a character that cannot be stored.
REPLACEMENT = "\ufffd"


class Unreadable(ValueError):
    """Not JSON, or not what it should be; the text says what."""


def read_object(body: bytes) -> dict[str, Any]:
    """The object in a JSON text, with everything in it fit to be stored; raises `Unreadable`."""
    try:
        value = orjson.loads(body)
        strange = b"\\u0000" in body or body.count(b"[") + body.count(b"{") > MAX_DEPTH
    except orjson.JSONDecodeError:
        value = _lenient(body)
        strange = True
    if not isinstance(value, dict):
        raise Unreadable("it is no JSON object")
    return clean(value) if strange else value


def clean(value: Any, depth: int = 0) -> Any:
    """A JSON value without what PostgreSQL refuses."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int) and not isinstance(value, bool):
        return value if -(2**63) <= value < 2**64 else float(value) if abs(value) < 1e300 else None
    if isinstance(value, dict | list) and depth >= MAX_DEPTH:
        return "(nested too deeply)"
    if isinstance(value, dict):
        return {_text(name): clean(inner, depth + 1) for name, inner in value.items()}
    if isinstance(value, list):
        return [clean(inner, depth + 1) for inner in value]
    return value


def _text(value: str) -> str:
    if "\x00" in value:
        value = value.replace("\x00", REPLACEMENT)
    try:
        value.encode()
    except UnicodeEncodeError:
        value = value.encode(errors="surrogatepass").decode(errors="replace")
    return value


def _lenient(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as wrong:
        raise Unreadable(f"it is not JSON: {wrong}") from None
