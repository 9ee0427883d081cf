"""A gateway for tests: Flask's test client on a real database and broker, with tokens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient
from qslice_gateway.app import Gateway, close_app, create_app
from qslice_gateway.auth import dev_issuer
from qslice_gateway.services import Services
from qslice_gateway.settings import DEFAULT_AUDIENCE, GatewaySettings
from werkzeug.test import TestResponse

RUN = {
    "repository": "https://git.example/qkd/bb84.git",
    "command": ["python", "/app/bb84.py", "--distance", "10"],
}


class Tokens:
    """Makes tokens of a development issuer with a key file of its own."""

    def __init__(self, folder: Path) -> None:
        self.key_file = folder / "issuer.pem"
        if not self.key_file.exists():
            dev_issuer.make_key(self.key_file)
        self.key = dev_issuer.load_key(self.key_file)

    def make(self, subject: str, *projects: str, admin: bool = False, life_s: float = 3600) -> str:
        return dev_issuer.make_token(
            self.key,
            subject,
            audience=DEFAULT_AUDIENCE,
            projects=projects,
            admin=admin,
            life_s=life_s,
        )


@dataclass
class Caller:
    """One person's requests."""

    client: FlaskClient
    token: str | None

    def get(self, path: str, **more: Any) -> TestResponse:
        return self.send("GET", path, **more)

    def post(self, path: str, body: Any = None, **more: Any) -> TestResponse:
        return self.send("POST", path, json=body, **more)

    def delete(self, path: str, **more: Any) -> TestResponse:
        return self.send("DELETE", path, **more)

    def send(self, method: str, path: str, **more: Any) -> TestResponse:
        headers = dict(more.pop("headers", {}))
        if self.token is not None:
            headers.setdefault("Authorization", f"Bearer {self.token}")
        return self.client.open(path, method=method, headers=headers, **more)


@dataclass
class TestGateway:
    """An application in this process; `by` gives somebody's requests."""

    __test__ = False

    app: Gateway
    tokens: Tokens

    @property
    def services(self) -> Services:
        services: Services = self.app.extensions["qslice"]
        return services

    def by(self, subject: str = "alice", *projects: str, admin: bool = False) -> Caller:
        return Caller(self.app.test_client(), self.tokens.make(subject, *projects, admin=admin))

    def by_nobody(self) -> Caller:
        return Caller(self.app.test_client(), None)

    def with_token(self, token: str) -> Caller:
        return Caller(self.app.test_client(), token)


@contextmanager
def gateway(
    tokens: Tokens, database_url: str, broker_url: str, management_url: str, **settings: Any
) -> Iterator[TestGateway]:
    """An application on these parts; what it holds open is closed at the end."""
    app = create_app(
        GatewaySettings(
            **{
                "database_url": database_url,
                "amqp_url": broker_url,
                "rabbitmq_management_url": management_url,
                "dev_issuer_key": tokens.key_file,
                **settings,
            }
        )
    )
    try:
        yield TestGateway(app, tokens)
    finally:
        close_app(app)
