"""Where a repository's address leads: resolved here, judged, and pinned for git.

git gets the address that was judged, so a name that resolves to another one a moment later (DNS
rebinding) gains nothing.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from qslice import repositories
from qslice.faults import SystemFault, UserFault

from qslice_runner import git
from qslice_runner.settings import RunnerSettings

_PORTS = {"https": 443, "http": 80, "ssh": 22}
#: All addresses of a host and port.
Resolve = Callable[[str, int], Awaitable[list[str]]]


@dataclass(frozen=True)
class Source:
    """A repository as git is told to fetch it."""

    url: str
    options: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()


async def resolve(host: str, port: int) -> list[str]:
    """By the system's resolver; raises `OSError`."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[4][0]) for address in found))


def forbidden(message: str) -> UserFault:
    return UserFault("repository_forbidden", message)


async def locate(url: str, settings: RunnerSettings, resolve: Resolve = resolve) -> Source:
    """Where to fetch from. Raises `UserFault` `repository_forbidden` or `repository_not_found`."""
    parts = repositories.split(repositories.check_url(url))
    if parts.scheme == "file":
        return Source(_file(url, settings.allow_file_repositories))
    if parts.scheme == "http" and not settings.allow_http_repositories:
        raise forbidden("this runner clones nothing over plain http; use https")
    if parts.scheme == "ssh" and settings.git_ssh_key is None:
        raise forbidden("this runner has no ssh key; use the https address")
    host = parts.hostname or ""
    port = parts.port or _PORTS[parts.scheme]
    if settings.git_proxy and parts.scheme != "ssh":
        return Source(url, (f"http.proxy={settings.git_proxy}",))
    try:
        addresses = await resolve(host, port)
    except socket.gaierror as error:
        if error.errno in (socket.EAI_NONAME, socket.EAI_NODATA):
            raise UserFault("repository_not_found", f"there is no host {host}") from None
        raise SystemFault(
            "repository_unreachable", f"the name {host} cannot be looked up at present: {error}"
        ) from None
    except (OSError, UnicodeError) as error:
        raise UserFault("repository_not_found", f"{host} is no host: {error}") from None
    if not settings.allow_private_repositories:
        for address in addresses:
            if repositories.is_private(address.partition("%")[0]):
                raise forbidden(
                    f"{host} is {address}, a private address, from which this runner does not clone"
                )
    return _pinned(url, host, port, addresses, settings)


def _pinned(
    url: str, host: str, port: int, addresses: list[str], settings: RunnerSettings
) -> Source:
    if repositories.split(url).scheme == "ssh":
        command = git.ssh_command(settings, host, addresses[0])
        return Source(url, (), (("GIT_SSH_COMMAND", command), ("GIT_SSH_VARIANT", "ssh")))
    given = ",".join(f"[{address}]" if ":" in address else address for address in addresses)
    return Source(url, (f"http.curloptResolve={host}:{port}:{given}", "http.proxy="))


def _file(url: str, folder: Path | None) -> str:
    """The real path below the operator's folder, links followed."""
    if folder is None:
        raise forbidden("this runner clones no local folders; use https or ssh")
    path = Path(unquote(repositories.split(url).path))
    try:
        root = folder.resolve(strict=True)
        real = path.resolve(strict=True)
    except OSError:
        if not repositories.below(url, str(folder)):
            raise _outside(folder) from None
        raise UserFault(
            "repository_not_found", f"there is no repository at {url} on the runner's host"
        ) from None
    if root not in real.parents:
        raise _outside(folder)
    return real.as_uri()


def _outside(folder: Path) -> UserFault:
    return forbidden(f"a file address must lie below {folder} on the runner's host")
