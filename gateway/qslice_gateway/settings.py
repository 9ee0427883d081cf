"""What the gateway is told by its environment (`QSLICE_…`)."""

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    field_validator,
    model_validator,
)
from qslice.settings import Settings

#: Asymmetric only: who can check a token must not be able to make one.
Algorithm = Literal["ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "EdDSA"]

LOOPBACK = ("localhost", "127.0.0.1", "::1")
DEV_ISSUER = "qslice-dev"
DEFAULT_AUDIENCE = "qslice"


class Issuer(BaseModel):
    """One authority whose tokens are believed, and how far."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: The exact `iss` of its tokens.
    issuer: Annotated[str, StringConstraints(min_length=1)]
    #: The `aud` that its tokens for this gateway carry.
    audience: Annotated[str, StringConstraints(min_length=1)]
    #: The one algorithm; what a token's header says is only compared with it.
    algorithm: Algorithm = "ES256"
    #: Its public keys: the address of a JWKS document (https, or http to this host) or a file.
    jwks: Annotated[str, StringConstraints(min_length=1)]
    #: Seconds by which the clocks may differ.
    leeway_s: Annotated[float, Field(ge=0, le=300)] = 10.0
    #: Put before `sub`, so that two issuers cannot name the same person.
    subject_prefix: str = ""
    #: Projects that its people may make: those that their token names, or any.
    makes_projects: Literal["named", "any"] = "named"
    #: Whether the scope `qslice:admin` in its tokens is believed.
    grants_admin: bool = False
    #: Subjects that are administrators whatever their scope.
    admins: frozenset[str] = frozenset()

    @field_validator("jwks")
    @classmethod
    def _jwks(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise ValueError("keys come over https, or from a file")
        if parts.scheme not in ("", "http", "https"):
            raise ValueError("must be an https address or the path of a file")
        return value

    @property
    def jwks_file(self) -> Path | None:
        return None if "://" in self.jwks else Path(self.jwks)


class DatabaseSettings(Settings):
    """What gateway and ledger need of the database."""

    database_url: SecretStr = Field(description="postgresql://user:password@host:port/database")


class SetupSettings(DatabaseSettings):
    """What makes the database and the virtual host that the other settings name."""

    database_admin_url: SecretStr = Field(
        description="postgresql:// of somebody who may make roles and databases"
    )
    rabbitmq_management_url: SecretStr = Field(
        description="http(s)://admin:password@host:port of RabbitMQ's management API"
    )


class GatewaySettings(DatabaseSettings):
    """The REST service."""

    listen: str = Field("127.0.0.1:8000", description="host:port to serve at")
    workers: int = Field(2, ge=1, le=64, description="processes")
    threads: int = Field(8, ge=1, le=256, description="requests at once per process")
    max_streams: int = Field(
        32, ge=1, le=1024, description="live streams at once per process, beside the requests"
    )
    stream_s: float = Field(
        3600.0, gt=0, description="seconds after which a stream ends; the client resumes it"
    )
    client_timeout_s: float = Field(
        30.0, ge=0.1, description="seconds that a client may stall in the middle of a request"
    )
    database_connections: int = Field(8, ge=1, le=100, description="per process")
    max_body_bytes: int = Field(16 * 1024 * 1024, ge=1024, description="of one request")
    max_jobs_per_request: int = Field(10_000, ge=1, le=100_000, description="jobs in one request")
    max_jobs_per_batch: int = Field(100_000, ge=1, le=1_000_000, description="jobs in one batch")

    rabbitmq_management_url: SecretStr | None = Field(
        None, description="http(s)://user:password@host:port of RabbitMQ's management API"
    )
    public_amqp_url: str | None = Field(
        None, description="amqp(s)://host:port that labs reach the broker at; default: ours"
    )
    max_queues_per_project: int = Field(
        32, ge=0, le=1000, description="queues that a project may make beside its own five"
    )

    issuers: list[Issuer] = Field([], description="JSON list of trusted token issuers")
    audience: str = Field(DEFAULT_AUDIENCE, description="`aud` of the development issuer's tokens")
    dev_issuer_key: Path | None = Field(
        None, description="key file of the development issuer, which exists only where this is set"
    )
    jwks_refetch_s: float = Field(
        30.0, gt=0, description="keys are fetched again at most this often"
    )

    metrics_token: SecretStr | None = Field(
        None, min_length=16, description="bearer token of /metrics; administrators always may"
    )

    @model_validator(mode="after")
    def _people_stay_apart(self) -> Self:
        issuers = [one.issuer for one in self.issuers]
        if len(set(issuers)) != len(issuers):
            raise ValueError("two issuers have the same name")
        prefixes = [one.subject_prefix for one in self.issuers]
        if len(set(prefixes)) != len(prefixes):
            raise ValueError(
                "each issuer needs a subject_prefix of its own, or one's people pass as another's"
            )
        return self
