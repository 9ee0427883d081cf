"""What an image made on this machine needs to install packages where this machine can.

Certificate authorities, apt sources and pip's index, as files to copy into the image. Addresses
with a password in them are left out: strangers' programs run in these images.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from qslice_native.mirror import Source, suite_sources

_CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
_LOCAL_CAS = Path("/usr/local/share/ca-certificates")
_ARCHIVE_KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
_APT_KEYS = ("Acquire::http", "Acquire::https", "Acquire::Check-", "Acquire::Retries")
_PIP_ADDRESSES = ("index-url", "extra-index-url", "find-links", "proxy")
_PIP_KEYS = (*_PIP_ADDRESSES, "trusted-host", "default-timeout", "timeout", "retries")


def host_files(suite: str) -> dict[str, bytes]:
    """Path in the image -> contents."""
    files: dict[str, bytes] = {}
    if _CA_BUNDLE.is_file():
        files[str(_CA_BUNDLE)] = _CA_BUNDLE.read_bytes()
    for certificate in sorted(_LOCAL_CAS.glob("**/*.crt")):
        files[str(certificate)] = certificate.read_bytes()
    sources = suite_sources(suite)
    if sources:
        files["/etc/apt/sources.list"] = b""
        files["/etc/apt/sources.list.d/host.sources"] = deb822(sources).encode()
    settings = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False)
    files["/etc/apt/apt.conf.d/80host"] = apt_settings(settings.stdout).encode()
    pip = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    files["/etc/pip.conf"] = pip_conf(pip.stdout, _CA_BUNDLE.is_file()).encode()
    return files


def deb822(sources: Iterable[Source]) -> str:
    """The sources as stanzas; a key that only this host has is replaced by Debian's own."""
    stanzas = (
        f"Types: deb\nURIs: {source.uri}\nSuites: {source.suite}\n"
        f"Components: {' '.join(source.components)}\nSigned-By: {_ARCHIVE_KEYS}\n"
        for source in sources
    )
    return "\n".join(dict.fromkeys(stanzas))


def apt_settings(dump: str) -> str:
    """The lines of `apt-config dump` that say how archives are reached."""
    lines = (
        line
        for line in dump.splitlines()
        if line.startswith(_APT_KEYS) and not line.endswith(' "";') and "@" not in line
    )
    return "".join(f"{line}\n" for line in lines)


def pip_conf(listing: str, with_ca_bundle: bool) -> str:
    """A pip.conf from `pip config list`: what an address on the network says, nothing local."""
    values: dict[str, str] = {}
    for key, value in _pip_settings(listing):
        if key in _PIP_ADDRESSES:
            value = " ".join(word for word in value.split() if _is_public(word))
        if key in _PIP_KEYS and value:
            # The environment is listed first, and wins as it does in pip.
            values.setdefault(key, value)
    if with_ca_bundle:
        values["cert"] = str(_CA_BUNDLE)
    values["disable-pip-version-check"] = "true"
    values["root-user-action"] = "ignore"
    return "[global]\n" + "".join(f"{key} = {value}\n" for key, value in values.items())


def _pip_settings(listing: str) -> Iterator[tuple[str, str]]:
    for line in listing.splitlines():
        name, _, value = line.partition("=")
        section, _, key = name.rpartition(".")
        if section in {":env:", "global", "install"}:
            yield key, str(ast.literal_eval(value))


def _is_public(address: str) -> bool:
    parts = urlsplit(address)
    return parts.scheme in {"http", "https"} and "@" not in parts.netloc
