"""The commands of `qslice-gateway`, as an operator runs them."""

from __future__ import annotations

import os
import secrets
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import httpx
import jwt
import orjson
import psycopg
import pytest
from psycopg import sql
from qslice_gateway.auth import dev_issuer
from qslice_gateway.auth.tokens import Tokens
from qslice_gateway.settings import GatewaySettings, Issuer

from tests.support.gateway import Tokens as GatewayTokens
from tests.support.gateway import gateway
from tests.support.platform import Platform, drop_database


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command with these settings and no others."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("QSLICE_")}
    program = Path(sys.executable).with_name("qslice-gateway")
    return subprocess.run(
        [str(program), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**inherited, **environment},
    )


def issuer(key: Path, **more: object) -> Tokens:
    settings = GatewaySettings.model_validate(
        {
            "amqp_url": "amqp://h/v",
            "database_url": "postgresql://h/d",
            "dev_issuer_key": key,
            **more,
        }
    )
    keys = dev_issuer.keys(settings)
    assert keys is not None
    return Tokens([keys])


def test_a_token_of_the_development_issuer_is_believed(tmp_path: Path) -> None:
    key = tmp_path / "keys" / "issuer.pem"
    arguments = ["token", "--subject", "alice", "--project", "a", "--project", "b", "--admin"]
    missing = run(*arguments, QSLICE_DEV_ISSUER_KEY=str(key))
    assert missing.returncode == 2
    assert "--make-key" in missing.stderr
    made = run(*arguments, "--make-key", QSLICE_DEV_ISSUER_KEY=str(key))
    again = run(*arguments, "--make-key", QSLICE_DEV_ISSUER_KEY=str(key))
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    for done in (made, again):
        assert done.returncode == 0, done.stderr
        identity = issuer(key).identify(f"Bearer {done.stdout.strip()}")
        assert (identity.subject, identity.projects) == ("alice", frozenset({"a", "b"}))
        assert identity.admin


def test_without_its_key_there_is_no_development_issuer() -> None:
    done = run("token", "--subject", "alice")
    assert (done.returncode, done.stdout) == (2, "")
    assert "QSLICE_DEV_ISSUER_KEY" in done.stderr


def test_beside_other_issuers_its_people_have_a_prefix(tmp_path: Path) -> None:
    key = tmp_path / "issuer.pem"
    dev_issuer.make_key(key)
    token = dev_issuer.make_token(dev_issuer.load_key(key), "alice", audience="qslice")
    assert jwt.get_unverified_header(token)["alg"] == "ES256"
    other = Issuer(issuer="https://a.example", audience="q", jwks="https://a.example/jwks")
    assert issuer(key).identify(f"Bearer {token}").subject == "alice"
    beside = issuer(key, issuers=[other.model_dump()])
    assert beside.identify(f"Bearer {token}").subject == "dev:alice"


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    key = tmp_path / "issuer.pem"
    key.write_text("no key")
    done = run("token", QSLICE_DEV_ISSUER_KEY=str(key))
    assert done.returncode == 2
    assert "cannot be used" in done.stderr
    with pytest.raises(FileExistsError):
        dev_issuer.make_key(key)


def test_the_openapi_document_needs_no_running_part() -> None:
    done = run("openapi")
    assert done.returncode == 0, done.stderr
    assert orjson.loads(done.stdout)["openapi"] == "3.1.0"


def test_every_setting_is_told() -> None:
    done = run("settings")
    assert done.returncode == 0, done.stderr
    told = {line.partition(":")[0] for line in done.stdout.splitlines() if line[0] != "#"}
    assert {f"QSLICE_{name.upper()}" for name in GatewaySettings.model_fields} <= told
    assert "None (" not in done.stdout, "each has a description"


def test_missing_settings_are_named() -> None:
    done = run("serve")
    assert done.returncode == 1
    assert "QSLICE_DATABASE_URL" in done.stderr
    assert "QSLICE_AMQP_URL" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_key_file_that_is_missing_is_told_at_the_start(tmp_path: Path) -> None:
    done = run(
        "serve",
        QSLICE_DATABASE_URL="postgresql://127.0.0.1:1/x",
        QSLICE_AMQP_URL="amqp://127.0.0.1:1/x",
        QSLICE_DEV_ISSUER_KEY=str(tmp_path / "none.pem"),
    )
    assert done.returncode == 2
    assert "none.pem" in done.stderr
    assert "Traceback" not in done.stderr


class TestSetup:
    """An empty server and broker, made fit with administrators' URLs."""

    @pytest.fixture
    def environment(self, platform: Platform) -> Iterator[dict[str, str]]:
        name = f"setup-{secrets.token_hex(6)}"
        amqp, postgres = urlsplit(platform.amqp_url), urlsplit(platform.postgres_url)
        user = f"{name}:p%40ss"
        yield {
            "QSLICE_AMQP_URL": urlunsplit(
                amqp._replace(netloc=f"{user}@{amqp.hostname}:{amqp.port}", path=f"/{name}")
            ),
            "QSLICE_DATABASE_URL": urlunsplit(
                postgres._replace(
                    netloc=f"{user}@{postgres.hostname}:{postgres.port}", path=f"/{name}"
                )
            ),
            "QSLICE_DATABASE_ADMIN_URL": platform.postgres_url,
            "QSLICE_RABBITMQ_MANAGEMENT_URL": platform.management_url,
        }
        with httpx.Client(base_url=platform.management_url, trust_env=False, timeout=60) as api:
            api.delete(f"/api/vhosts/{name}")
            api.delete(f"/api/users/{name}")
        drop_database(platform.postgres_url, name)
        with psycopg.connect(platform.postgres_url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))

    def test_it_makes_a_working_place_and_again_changes_nothing(
        self, environment: dict[str, str], tmp_path: Path
    ) -> None:
        for _ in range(2):
            done = run("setup", **environment)
            assert done.returncode == 0, done.stderr
            assert "p%40ss" not in done.stdout + done.stderr
            assert "p@ss" not in done.stdout + done.stderr
        with gateway(
            GatewayTokens(tmp_path),
            environment["QSLICE_DATABASE_URL"],
            environment["QSLICE_AMQP_URL"],
            environment["QSLICE_RABBITMQ_MANAGEMENT_URL"],
        ) as house:
            assert house.by("alice").post("/api/v1/projects", {"name": "lab"}).status_code == 201
            assert house.by("alice").get("/rabbit/lab.Done/").status_code == 204

    def test_its_user_reaches_no_other_virtual_host(
        self, environment: dict[str, str], platform: Platform
    ) -> None:
        assert run("setup", **environment).returncode == 0
        user = urlsplit(environment["QSLICE_AMQP_URL"]).username
        with httpx.Client(base_url=platform.management_url, trust_env=False, timeout=60) as api:
            found = api.get(f"/api/users/{user}").json()
            permissions = api.get(f"/api/users/{user}/permissions").json()
        assert found["tags"] in ([], "")
        assert [permission["vhost"] for permission in permissions] == [user]
