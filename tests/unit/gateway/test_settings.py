"""The gateway's settings: what is refused, and what the development issuer is."""

from typing import Any

import pytest
from pydantic import ValidationError
from qslice_gateway.auth import dev_issuer
from qslice_gateway.settings import GatewaySettings, Issuer

PARTS: dict[str, Any] = {
    "amqp_url": "amqp://u:secret@localhost/v",
    "database_url": "postgresql://u:secret@localhost/d",
}
SLICES = {
    "issuer": "https://account.example",
    "audience": "https://qslice.example",
    "jwks": "https://account.example/jwks",
}


@pytest.mark.parametrize(
    "changed",
    [
        {"algorithm": "none"},
        {"algorithm": "HS256"},
        {"jwks": "http://account.example/jwks"},
        {"jwks": "ftp://account.example/jwks"},
        {"leeway_s": 3600},
        {"key": "x"},
    ],
    ids=str,
)
def test_an_issuer_that_could_not_be_trusted_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Issuer.model_validate({**SLICES, **changed})


def test_two_issuers_need_two_prefixes() -> None:
    other = {**SLICES, "issuer": "https://other.example"}
    with pytest.raises(ValidationError, match="subject_prefix"):
        GatewaySettings(**PARTS, issuers=[SLICES, other])
    GatewaySettings(**PARTS, issuers=[SLICES, {**other, "subject_prefix": "other:"}])
    with pytest.raises(ValidationError, match="same name"):
        GatewaySettings(**PARTS, issuers=[SLICES, {**SLICES, "subject_prefix": "b:"}])


def test_there_is_no_development_issuer_unless_it_is_switched_on() -> None:
    assert dev_issuer.keys(GatewaySettings(**PARTS)) is None


def test_secrets_do_not_show_when_settings_are_printed() -> None:
    assert "secret" not in repr(GatewaySettings(**PARTS))
