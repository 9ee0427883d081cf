"""Where this machine gets its Debian packages from: its own apt sources, never an address of ours.

Formats: sources.list(5), the deb822 style (`*.sources`) and the one-line style (`*.list`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from qslice_native.say import NativeError

APT = Path("/etc/apt")
OVERRIDE = "QSLICE_DEBIAN_MIRROR"
_NETWORK = {"http", "https"}


@dataclass(frozen=True)
class Source:
    """One archive: a URI, a suite and its components."""

    uri: str
    suite: str
    components: tuple[str, ...]
    signed_by: str = ""

    @property
    def is_public(self) -> bool:
        """Whether it is a network address without a user name or password in it."""
        parts = urlsplit(self.uri)
        return parts.scheme in _NETWORK and "@" not in parts.netloc


def parse_one_line(text: str) -> Iterator[Source]:
    """`deb [signed-by=/usr/share/keyrings/x.gpg] http://host/debian bookworm main`."""
    for line in text.splitlines():
        words = re.match(r"\s*deb\s+(?:\[([^\]]*)\]\s*)?([^#]+)", line)
        if words is None:
            continue
        uri, *rest = words[2].split()
        if not rest:
            continue
        options = dict(
            option.lower().split("=", 1) for option in (words[1] or "").split() if "=" in option
        )
        yield Source(uri, rest[0], tuple(rest[1:]), options.get("signed-by", ""))


def parse_deb822(text: str) -> Iterator[Source]:
    """Stanzas of `Types:`, `URIs:`, `Suites:`, `Components:`; a field goes on in indented lines."""
    for stanza in re.split(r"\n\s*\n", text):
        fields = _fields(stanza)
        enabled = " ".join(fields.get("enabled", ["yes"])).lower()
        if "deb" not in fields.get("types", []) or enabled in {"no", "false", "0"}:
            continue
        key = fields.get("signed-by", [""])
        # More than one word is a key written into the stanza itself.
        signed_by = key[0] if len(key) == 1 else ""
        for uri in fields.get("uris", []):
            for suite in fields.get("suites", []):
                yield Source(uri, suite, tuple(fields.get("components", [])), signed_by)


def _fields(stanza: str) -> dict[str, list[str]]:
    fields: dict[str, list[str]] = {}
    current: list[str] = []
    for line in stanza.splitlines():
        if line.lstrip().startswith("#") or not line.strip():
            continue
        if line[0].isspace():
            current.extend(line.split())
        else:
            name, _, value = line.partition(":")
            current = fields.setdefault(name.strip().lower(), [])
            current.extend(value.split())
    return fields


def apt_sources(apt: Path = APT) -> list[Source]:
    """All enabled archives of this machine, in apt's order."""
    parts = sorted((apt / "sources.list.d").glob("*"))
    lists = [apt / "sources.list", *(path for path in parts if path.suffix == ".list")]
    stanzas = [path for path in parts if path.suffix == ".sources"]
    return [
        *_read(lists, parse_one_line),
        *_read(stanzas, parse_deb822),
    ]


def _read(paths: Iterable[Path], parse: Callable[[str], Iterator[Source]]) -> Iterator[Source]:
    for path in paths:
        if path.is_file():
            yield from parse(path.read_text(errors="replace"))


def suite_sources(suite: str, apt: Path = APT) -> list[Source]:
    """This machine's archives of a Debian suite with its updates and security fixes."""
    wanted = {suite, f"{suite}-updates", f"{suite}-security", f"{suite}-backports"}
    return [
        source
        for source in apt_sources(apt)
        if source.suite.strip("/").split("/")[0] in wanted and source.is_public
    ]


def debian_mirror(suite: str = "bookworm", apt: Path = APT) -> str:
    """The URI to bootstrap `suite` from.

    `QSLICE_DEBIAN_MIRROR` wins; else the URI of that suite in the apt sources; else that of any
    Debian suite there (one mirror holds them all).
    """
    override = os.environ.get(OVERRIDE, "").strip()
    if override:
        return override.rstrip("/")
    # Only the main archive can be bootstrapped from: the security archive holds a part.
    archives = [
        source
        for source in apt_sources(apt)
        if "main" in source.components and urlsplit(source.uri).path.rstrip("/").endswith("debian")
    ]
    exact = [source for source in archives if source.suite == suite]
    for source in [*exact, *archives]:
        return source.uri.rstrip("/")
    raise NativeError(
        f"no Debian archive found under {apt}: set {OVERRIDE} to the address of a Debian mirror"
    )
