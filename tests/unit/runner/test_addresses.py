"""Where a repository may lie: its name is resolved once, judged, and pinned."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from qslice.faults import Fault, SystemFault
from qslice_runner.addresses import Resolve, Source, locate

from tests.unit.runner.settings import settings

PUBLIC = "93.184.216.34"


def resolves_to(*addresses: str) -> Resolve:
    async def resolve(host: str, port: int) -> list[str]:
        return list(addresses)

    return resolve


async def code_of(url: str, resolve: Resolve | None = None, **given: object) -> str:
    with pytest.raises(Fault) as refused:
        await locate(url, settings(**given), resolve or resolves_to(PUBLIC))
    return refused.value.code


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0",
        "100.64.0.1", "::1", "fe80::1%eth0", "fc00::1", "::ffff:10.0.0.1", "224.0.0.1",
    ],
)  # fmt: skip
async def test_a_name_of_a_private_address_is_refused(address: str) -> None:
    url = "https://looks.public/x"
    assert await code_of(url, resolves_to(address)) == "repository_forbidden"
    # One among public ones is enough.
    assert await code_of(url, resolves_to(PUBLIC, address)) == "repository_forbidden"
    allowed = settings(allow_private_repositories=True)
    assert (await locate(url, allowed, resolves_to(address))).url == url


async def test_git_connects_to_the_judged_address_and_to_no_other() -> None:
    found = await locate("https://git.example:8443/x", settings(), resolves_to(PUBLIC, "2606::1"))
    assert f"http.curloptResolve=git.example:8443:{PUBLIC},[2606::1]" in found.options


async def test_ssh_connects_to_the_judged_address() -> None:
    keys = settings(git_ssh_key=Path("/key"), git_ssh_known_hosts=Path("/hosts"))
    found = await locate("git@git.example:lab/x.git", keys, resolves_to(PUBLIC))
    assert f"HostName={PUBLIC}" in dict(found.env)["GIT_SSH_COMMAND"]


async def test_a_scheme_that_the_operator_did_not_allow_is_refused() -> None:
    assert await code_of("http://git.example/x") == "repository_forbidden"
    assert await code_of("ssh://git@git.example/x") == "repository_forbidden"
    assert await code_of("file:///srv/git/x") == "repository_forbidden"


async def test_an_unknown_host_is_the_users_and_a_silent_resolver_is_ours() -> None:
    async def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    async def silent(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    assert await code_of("https://nowhere.example/x", unknown) == "repository_not_found"
    with pytest.raises(SystemFault) as fault:
        await locate("https://git.example/x", settings(), silent)
    assert fault.value.code == "repository_unreachable"


async def test_behind_a_proxy_the_proxy_looks_names_up() -> None:
    found = await locate("https://git.example/x", settings(git_proxy="http://proxy:3128"))
    assert found == Source("https://git.example/x", ("http.proxy=http://proxy:3128",))
