"""Which git addresses may be cloned: pure checks, each against a known attack.

An address reaches `git` as an argument, so an option in disguise is refused here already, and so
is any transport but https, ssh and, below one folder that the operator names, file.
"""

import ipaddress
import re
from functools import lru_cache
from pathlib import PurePosixPath
from urllib.parse import SplitResult, unquote, urlsplit

SCHEMES = ("https", "http", "ssh", "file")
_SCP = re.compile(
    r"^(?P<user>[A-Za-z0-9_][A-Za-z0-9_.-]*)@(?P<host>[A-Za-z0-9.-]+):(?P<path>[^:].*)$"
)
_REF = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_./+@-]{0,199}\Z")
_COMMIT = re.compile(r"^[0-9a-f]{40}\Z")
MAX_LENGTH = 2000


# A sweep's jobs all name the same one.
@lru_cache(maxsize=1024)
def check_url(url: str) -> str:
    """The address itself; raises `ValueError` where it could do more than name a repository.

    Whether an operator allows `http`, `file` or a private address is the worker's own setting.
    """
    if not url or len(url) > MAX_LENGTH:
        raise ValueError(f"must be an address of 1 to {MAX_LENGTH} characters")
    if any(ord(character) < 33 or ord(character) == 127 for character in url):
        raise ValueError("must not hold spaces or control characters")
    if url.startswith("-"):
        raise ValueError("must not start with '-'")
    if "::" in url.split("/", 1)[0]:
        raise ValueError("names a transport helper ('::'); use https or ssh")
    if scp := _SCP.match(url):
        _check_path(scp["path"])
        return url
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as wrong:
        raise ValueError(f"is no address: {wrong}") from None
    del port
    if parts.scheme not in SCHEMES:
        raise ValueError(f"scheme {parts.scheme or '(none)'!r} is not allowed; use https or ssh")
    if parts.query or parts.fragment:
        raise ValueError("must not have a query or a fragment")
    if parts.password is not None:
        raise ValueError("must not hold a password; it would be stored with the job")
    if parts.scheme == "file":
        if parts.netloc:
            raise ValueError("a file address has three slashes: file:///path")
    elif (
        not parts.hostname
        or parts.hostname.startswith("-")
        or (parts.username or "").startswith("-")
    ):
        raise ValueError("names no host")
    _check_path(parts.path)
    return url


def check_ref(ref: str) -> str:
    """A branch, tag or commit; raises `ValueError` for what git would read as something else."""
    if not _REF.match(ref) or ".." in ref or "@{" in ref or ref.endswith((".lock", "/", ".")):
        raise ValueError("is no branch, tag or commit")
    return ref


def is_commit(ref: str) -> bool:
    """Whether it is a full commit: 40 hexadecimal digits."""
    return bool(_COMMIT.match(ref))


def split(url: str) -> SplitResult:
    """The parts of an address that `check_url` let pass, also of the form user@host:path."""
    if scp := _SCP.match(url):
        return urlsplit(f"ssh://{scp['user']}@{scp['host']}/{scp['path'].lstrip('/')}")
    return urlsplit(url)


def below(url: str, folder: str) -> bool:
    """Whether a file address lies below a folder, by its text alone."""
    parts = urlsplit(url)
    root = PurePosixPath(folder)
    return parts.scheme == "file" and root in PurePosixPath(unquote(parts.path)).parents


def is_private(address: str) -> bool:
    """Whether an IP address is not one of the public Internet."""
    found = ipaddress.ip_address(address)
    return not found.is_global or found.is_multicast


def _check_path(path: str) -> None:
    plain = unquote(path)
    if not plain.strip("/"):
        raise ValueError("names no repository")
    if plain.startswith("-") or ("/-" in plain and plain.split("/")[1:2] == ["-"]):
        raise ValueError("the path must not start with '-'")
    if ".." in PurePosixPath(plain).parts or "\x00" in plain:
        raise ValueError("the path must not hold '..'")
