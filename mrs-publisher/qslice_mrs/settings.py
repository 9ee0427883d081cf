"""The publisher's settings: pointing it at another registry needs nothing else."""

from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from qslice.settings import Settings

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class MrsSettings(Settings):
    """`QSLICE_MRS_…`; only the address, the client and its secret have no default."""

    mrs_url: str = Field(description="the registry's API, https://…, without /v0.2")
    mrs_client_id: str = Field(description="the client at the realm's token endpoint")
    mrs_client_secret: SecretStr = Field(description="its secret")
    mrs_realm: str = Field("slices", description="the realm, where the token address names none")
    mrs_token_url: str = Field(
        "", description="the token endpoint; default <mrs_url>/realms/<realm>/…/token"
    )
    mrs_audience: str = Field("", description="what tokens must be for; empty: not checked")
    mrs_portal_url: str = Field("", description="the portal of its pages; default <mrs_url>")
    mrs_ca_file: Path | None = Field(None, description="certificates of an own authority, PEM")
    mrs_allow_http: bool = Field(False, description="send secrets without TLS beyond this host")
    mrs_in_flight: int = Field(32, ge=1, le=1000, description="completions under way at once")
    mrs_timeout_s: float = Field(30.0, gt=0, description="patience with one request")
    mrs_search_batch: int = Field(24, ge=1, le=50, description="look-ups that share one search")
    mrs_retry_delays_s: list[float] = Field(
        [2.0, 10.0, 60.0, 300.0], min_length=1, description="waits between attempts, growing"
    )
    mrs_retry_limit: int = Field(300, ge=1, description="attempts before it is given up")
    mrs_settle_s: float = Field(
        120.0, gt=0, description="time after which a lost request can no longer take effect"
    )
    mrs_related: Literal["link", "text", "none"] = Field(
        "link", description="the form of related objects: relation links, plain texts, or none"
    )
    grace_s: float = Field(20.0, ge=0, description="time to finish what is under way at a stop")

    @field_validator("mrs_url", "mrs_portal_url", "mrs_token_url")
    @classmethod
    def _web_address(cls, value: str) -> str:
        if not value:
            return value
        parts = urlsplit(value)
        if parts.scheme not in ("https", "http") or not parts.hostname:
            raise ValueError("must be an https:// address")
        if parts.username or parts.password:
            raise ValueError("must not hold a user or password")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _secrets_go_over_tls(self) -> Self:
        for address in (self.mrs_url, self.token_url):
            parts = urlsplit(address)
            if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
                if self.mrs_allow_http:
                    continue
                raise ValueError(
                    f"{parts.scheme}://{parts.hostname} would get the client's secret without "
                    "TLS; use https, or QSLICE_MRS_ALLOW_HTTP=true in a lab of your own"
                )
        return self

    @property
    def token_url(self) -> str:
        """Where tokens are asked for."""
        default = f"{self.mrs_url}/realms/{{realm}}/protocol/openid-connect/token"
        return (self.mrs_token_url or default).replace("{realm}", self.mrs_realm)

    def portal_page(self, internal_id: int) -> str:
        """The portal's page of an object."""
        portal = self.mrs_portal_url or self.mrs_url
        return f"{portal}/app/management/digital-objects/view/{internal_id}"
