"""Logging in, and projects."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.integration.cli.conftest import Qslice
from tests.support.system import System


@pytest.fixture
def token(system: System, monkeypatch: pytest.MonkeyPatch) -> str:
    """Alice's token, which her environment does not hold."""
    for name in ("QSLICE_URL", "QSLICE_TOKEN", "QSLICE_PROJECT"):
        monkeypatch.delenv(name)
    return system.tokens.make("alice", "lab")


def test_a_login_is_kept_for_its_owner_only_and_used(
    qslice: Qslice, system: System, token: str, tmp_path: Path
) -> None:
    assert "run `qslice login`" in qslice("jobs").err
    url = ("--url", f"{system.url}/", "--token-file", "-", "--project", "lab")
    done = qslice("login", *url, stdin=f"{token}\n")
    assert done.code == 0
    assert f"logged in at {system.url} as alice" in done.lines[0]
    assert done.lines[1] == "projects: lab"
    kept = tmp_path / "config" / "qslice" / "login.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    assert (qslice("jobs").code, token in done.out + done.err) == (0, False)
    shown = qslice("token", "--json").json
    assert (shown["subject"], shown["projects"], shown["expired"]) == ("alice", ["lab"], False)
    assert qslice("token", "--show").lines == [token]
    assert "alice" in qslice("token").out
    assert qslice("logout").lines == ["logged out"]
    assert not kept.exists()
    assert qslice("logout", "--json").json == {"forgotten": False}
    assert qslice("token").code == 1


def test_a_token_that_the_gateway_refuses_is_not_kept(
    qslice: Qslice, system: System, token: str, tmp_path: Path
) -> None:
    done = qslice("login", "--url", system.url, "--token-file", "-", stdin=token[:-8])
    assert done.code == 1
    assert "qslice login" in done.err
    assert token[:-8] not in done.err
    assert not (tmp_path / "config" / "qslice" / "login.json").exists()
    assert qslice("login", "--url", system.url, "--token-file", "-", stdin="two words").code == 2
    assert qslice("login", "--url", system.url, "--token-file", "/none").code == 2


def test_a_kept_token_goes_to_no_other_gateway(
    qslice: Qslice, system: System, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    qslice("login", "--url", system.url, "--token-file", "-", "-p", "lab", stdin=token)
    monkeypatch.setenv("QSLICE_URL", system.url.replace("127.0.0.1", "localhost"))
    done = qslice("jobs")
    assert done.code == 1
    assert "token" in done.err


def test_the_development_issuer_makes_a_token_where_it_is_switched_on(
    qslice: Qslice, system: System, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    off = qslice("token", "--dev")
    assert (off.code, "QSLICE_DEV_ISSUER_KEY" in off.err) == (1, True)
    monkeypatch.setenv("QSLICE_DEV_ISSUER_KEY", str(system.tokens.key_file))
    monkeypatch.setenv("QSLICE_URL", system.url)
    shown = qslice("token", "--dev", "--subject", "bob", "-p", "bobs", "--json").json
    assert (shown["subject"], shown["projects"]) == ("bob", ["bobs"])
    assert qslice("project", "create", "bobs").code == 0


@pytest.mark.usefixtures("system")
def test_projects_are_made_listed_and_deleted(qslice: Qslice) -> None:
    assert qslice("project", "create", "bb84").lines == ["project bb84 of alice"]
    assert [one["name"] for one in qslice("project", "list", "--json").json] == ["bb84", "lab"]
    assert [line.split()[0] for line in qslice("project", "list").lines] == [
        "PROJECT",
        "bb84",
        "lab",
    ]
    assert qslice("project", "delete", "bb84", stdin="n\n").code == 1
    assert qslice("project", "delete", "bb84", stdin="y\n").code == 0
    assert qslice("project", "list", "--json").json[0]["name"] == "lab"
    wrong = qslice("project", "create", "No Name")
    assert (wrong.code, wrong.err.count("\n")) == (1, 1)
    assert "name: " in wrong.err


@pytest.mark.usefixtures("system")
def test_a_projects_broker_user_is_shown(qslice: Qslice) -> None:
    user = qslice("project", "broker-user", "lab", "--json").json
    assert user["amqp_url"].startswith(f"amqp://{user['username']}:")
    again = qslice("project", "broker-user", "lab")
    assert [line.split()[0] for line in again.lines] == ["user", "password", "url"]
    assert user["password"] not in again.out


@pytest.mark.usefixtures("system")
def test_a_project_with_jobs_to_do_is_deleted_by_force_only(qslice: Qslice) -> None:
    qslice("submit", "https://git.example/r.git", "--", "x")
    refused = qslice("project", "delete", "lab", "--yes")
    assert (refused.code, "still to do" in refused.err) == (1, True)
    assert qslice("project", "delete", "lab", "--yes", "--force").lines == ["deleted lab"]
