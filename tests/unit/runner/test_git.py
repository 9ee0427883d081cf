"""git's arguments and environment leave nothing to a repository or to the host's configuration."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from qslice.faults import SystemFault, UserFault
from qslice_runner import git
from qslice_runner.clone import candidates, explain

from tests.unit.runner.settings import settings


def test_only_what_the_operator_allows_is_a_transport() -> None:
    assert git.environment(settings())["GIT_ALLOW_PROTOCOL"] == "https"
    everything = settings(
        allow_http_repositories=True,
        allow_file_repositories=Path("/srv/git"),
        git_ssh_key=Path("/k"),
        git_ssh_known_hosts=Path("/h"),
    )
    assert git.environment(everything)["GIT_ALLOW_PROTOCOL"] == "https:http:ssh:file"


def test_git_reads_no_configuration_asks_nothing_and_inherits_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GIT_SSH_COMMAND", "evil")
    monkeypatch.setenv("QSLICE_AMQP_URL", "amqp://user:secret@host")
    env = git.environment(settings())
    assert env["GIT_CONFIG_NOSYSTEM"] == "1"
    assert env["GIT_CONFIG_GLOBAL"] == "/dev/null"
    assert env["GIT_TERMINAL_PROMPT"] == "0"
    assert env["HOME"] == "/state"
    assert "GIT_SSH_COMMAND" not in env
    assert "secret" not in str(env)


def test_every_git_runs_no_hook_no_helper_and_follows_no_redirect() -> None:
    arguments = git.command(["fetch", "--", "https://host/x"], ["http.proxy="], max_mb=2)
    assert arguments[:4] == ["setpriv", "--pdeathsig", "KILL", "prlimit"]
    assert "--fsize=2097152" in arguments
    assert arguments[-3:] == ["fetch", "--", "https://host/x"]
    options = {arguments[n + 1] for n, word in enumerate(arguments) if word == "-c"}
    assert {
        "core.hooksPath=/dev/null",
        "protocol.ext.allow=never",
        "credential.helper=",
        "http.followRedirects=false",
        "fetch.recurseSubmodules=false",
        "http.proxy=",
    } <= options


def test_ssh_connects_to_the_address_that_was_judged_and_trusts_known_hosts_only() -> None:
    given = settings(git_ssh_key=Path("/keys/my key"), git_ssh_known_hosts=Path("/hosts"))
    words = shlex.split(git.ssh_command(given, "git.example", "203.0.113.7"))
    assert words[:3] == ["ssh", "-F", "/dev/null"]
    options = set(words[4::2])
    assert {
        "HostName=203.0.113.7",
        "HostKeyAlias=git.example",
        'IdentityFile="/keys/my key"',
        'UserKnownHostsFile="/hosts"',
        "StrictHostKeyChecking=yes",
        "BatchMode=yes",
        "ProxyCommand=none",
    } <= options


def test_a_name_is_a_branch_before_it_is_a_tag() -> None:
    assert candidates("HEAD") == ["HEAD"]
    assert candidates("v1") == ["refs/heads/v1", "refs/tags/v1", "refs/tags/v1^{}"]
    assert candidates("refs/tags/v1") == ["refs/tags/v1", "refs/tags/v1^{}"]


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("fatal: repository 'https://h/x/' not found", "repository_not_found"),
        ("fatal: could not read Username for 'https://h'", "repository_not_found"),
        ("fatal: '/x' does not appear to be a git repository", "repository_not_found"),
        ("git@h: Permission denied (publickey).", "repository_not_found"),
        (
            "error: RPC failed; HTTP 403 curl 22 The requested URL returned error: 403",
            "repository_not_found",
        ),
        ("fatal: transport 'ext' not allowed", "repository_forbidden"),
        ("Host key verification failed.", "repository_forbidden"),
        ("fatal: unable to update url base from redirection", "repository_forbidden"),
        ("fatal: detected dubious ownership in repository at '/x'", "repository_forbidden"),
        ("fatal: remote error: upload-pack: not our ref 00", "ref_not_found"),
    ],
)
def test_what_the_user_can_mend_is_the_users(said: str, code: str) -> None:
    fault = explain(said, "https://h/x")
    assert isinstance(fault, UserFault)
    assert fault.code == code
    assert "https://h/x" in fault.message


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("fatal: unable to access 'https://h/': Failed to connect to h", "repository_unreachable"),
        (
            "fatal: unable to access: The requested URL returned error: 503",
            "repository_unreachable",
        ),
        ("fatal: the remote end hung up unexpectedly", "repository_unreachable"),
        ("fatal: write error: No space left on device", "disk_full"),
        ("fatal: something new", "internal"),
    ],
)
def test_what_may_pass_by_itself_is_ours(said: str, code: str) -> None:
    fault = explain(said, "https://h/x")
    assert isinstance(fault, SystemFault)
    assert fault.code == code


def test_a_repository_of_another_user_is_told_without_gits_advice() -> None:
    said = "fatal: detected dubious ownership in repository at '/g'\nTo add an exception, call:\n"
    fault = explain(f"{said}\n\tgit config --global --add safe.directory /g", "file:///g", "c" * 40)
    assert "belongs to another user" in fault.message
    assert "safe.directory" not in fault.message
