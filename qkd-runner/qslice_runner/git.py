"""How git is called: argument lists, an environment of our own, and limits that git itself lacks.

What an address or a repository could make git do beside fetching objects is switched off: helpers,
hooks, prompts, other transports, redirects, submodules, lazy fetches. Each against a known attack.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from qslice.faults import SystemFault

from qslice_runner.settings import RunnerSettings

#: Bytes of git's own output that are read; `ls-remote` of the refs we ask for needs far less.
_MAX_OUTPUT = 1024 * 1024
#: For every call. Attributes and filters of the tree never matter: nothing is checked out.
OPTIONS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.askPass=",
    "credential.helper=",
    "protocol.ext.allow=never",
    "http.followRedirects=false",
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=60",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "fetch.unpackLimit=1",
    "gc.auto=0",
    "maintenance.auto=false",
    "pack.threads=1",
    "advice.detachedHead=false",
)


@dataclass(frozen=True)
class Ended:
    """A git that ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def hit_file_limit(self) -> bool:
        return self.code == -signal.SIGXFSZ


class TooSlow(Exception):
    """The time was over."""


def environment(settings: RunnerSettings) -> dict[str, str]:
    """The whole environment of git: nothing is inherited but where programs are found."""
    schemes = ["https"]
    if settings.allow_http_repositories:
        schemes.append("http")
    if settings.git_ssh_key is not None:
        schemes.append("ssh")
    if settings.allow_file_repositories is not None:
        schemes.append("file")
    given = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(settings.runner_state_dir),
        "LC_ALL": "C",
        "GIT_ALLOW_PROTOCOL": ":".join(schemes),
        "GIT_PROTOCOL_FROM_USER": "0",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_LFS_SKIP_SMUDGE": "1",
    }
    if settings.git_ca_file is not None:
        given["GIT_SSL_CAINFO"] = str(settings.git_ca_file)
    return given


def ssh_command(settings: RunnerSettings, host: str, address: str) -> str:
    """ssh that reads no configuration, asks nothing, and connects to the address we looked at.

    git splits it like a shell: every part is ours, or an address or name already checked.
    """
    options = {
        "BatchMode": "yes",
        "ConnectTimeout": "15",
        "HostKeyAlias": host,
        "HostName": address,
        "IdentitiesOnly": "yes",
        "IdentityFile": f'"{settings.git_ssh_key}"',
        "PermitLocalCommand": "no",
        "ProxyCommand": "none",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": f'"{settings.git_ssh_known_hosts}"',
    }
    given = " ".join(f"-o '{name}={value}'" for name, value in options.items())
    return f"ssh -F /dev/null {given}"


def command(arguments: Sequence[str], options: Sequence[str] = (), max_mb: int = 0) -> list[str]:
    """The argument list of a git that dies with us and writes no file above `max_mb`."""
    wrapped = ["setpriv", "--pdeathsig", "KILL"]
    if max_mb:
        wrapped += ["prlimit", f"--fsize={max_mb * 1024 * 1024}"]
    settings = [part for option in (*OPTIONS, *options) for part in ("-c", option)]
    return [*wrapped, "git", *settings, *arguments]


async def run(
    arguments: Sequence[str],
    folder: Path,
    env: Mapping[str, str],
    timeout: float,
    to: BinaryIO | None = None,
) -> Ended:
    """Run a command of `command` to its end; raises `TooSlow`. A cancel kills it.

    Its output is what it returns, or goes `to` a file on disk.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *arguments,
            cwd=folder,
            env=dict(env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE if to is None else to,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except FileNotFoundError as missing:
        raise SystemFault(
            "internal", f"the runner's host lacks {missing.filename}; its operator must install it"
        ) from None
    try:
        async with asyncio.timeout(timeout):
            stdout, stderr = await asyncio.gather(_read(process.stdout), _read(process.stderr))
            code = await process.wait()
    except TimeoutError:
        raise TooSlow from None
    finally:
        # Also what git started: a helper may outlive it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    return Ended(code, stdout, stderr)


async def _read(stream: asyncio.StreamReader | None) -> str:
    """The beginning of a stream, which is read to its end."""
    kept = bytearray()
    while stream is not None and (data := await stream.read(65536)):
        kept += data[: max(0, _MAX_OUTPUT - len(kept))]
    return kept.decode(errors="replace")
