"""SLICES TypeIDs: `<type>_<authority>_<26 characters>`, a UUIDv7 in Crockford base32.

UUIDv7 starts with a millisecond clock (RFC 9562, 5.7), so identifiers sort by the time they were
made: listings page by them.
"""

import os
import re
import time
from uuid import UUID

DEFAULT_AUTHORITY = "localhost"

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_VALUES = {character: value for value, character in enumerate(_ALPHABET)}
_PAIRS = [high + low for high in _ALPHABET for low in _ALPHABET]
_TYPE_ID = re.compile(
    r"^(?P<type>[a-z]{1,16})_(?P<authority>[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?)_"
    r"(?P<suffix>[0-7][0-9a-hjkmnp-tv-z]{25})\Z"
)

JOB = "job"
BATCH = "batch"
TASK = "task"
RESOURCE = "r"
IMAGE = "image"
FLAVOR = "flavor"
EXPERIMENT = "exp"
PROJECT = "proj"


def uuid7() -> UUID:
    """A UUID of version 7: 48 bits of Unix milliseconds, the rest random."""
    random = int.from_bytes(os.urandom(10), "big")
    value = (time.time_ns() // 1_000_000) << 80 | random
    value = value & ~(0xF << 76) | (0x7 << 76)
    value = value & ~(0x3 << 62) | (0x2 << 62)
    return UUID(int=value)


def encode(value: UUID) -> str:
    """The 26 characters of a UUID: 130 bits of Crockford base32, most significant first."""
    number = value.int
    return "".join(_PAIRS[(number >> shift) & 0x3FF] for shift in range(120, -10, -10))


def decode(suffix: str) -> UUID:
    """The UUID of 26 characters; raises `ValueError` where they are none."""
    try:
        number = 0
        for character in suffix:
            number = number << 5 | _VALUES[character]
    except KeyError as unknown:
        raise ValueError(f"{unknown.args[0]!r} is no Crockford base32 character") from None
    return UUID(int=number)


def new(type_: str, authority: str = DEFAULT_AUTHORITY) -> str:
    """A fresh identifier of a type, such as `job_localhost_01m7…`."""
    return f"{type_}_{authority}_{encode(uuid7())}"


def parse(identifier: str, type_: str | None = None) -> tuple[str, str, UUID]:
    """The type, authority and UUID; raises `ValueError` where it is none, or of another type."""
    found = _TYPE_ID.match(identifier)
    if found is None:
        raise ValueError(
            f"{identifier[:80]!r} is no identifier of the form <type>_<authority>_<26 characters>"
        )
    if type_ is not None and found["type"] != type_:
        raise ValueError(f"{identifier!r} names a {found['type']!r}, not a {type_!r}")
    return found["type"], found["authority"], decode(found["suffix"])


def same_thing(identifier: str, type_: str) -> str:
    """The identifier of another type for the same thing: a job seen as a task and back."""
    _, authority, value = parse(identifier)
    return f"{type_}_{authority}_{encode(value)}"
