"""Token issuers in memory: keys, their documents, and tokens with whatever claims."""

from __future__ import annotations

import base64
import hmac
import time
from hashlib import sha256
from typing import Any

import jwt
import orjson
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from qslice_gateway.settings import Issuer

ISSUER = "https://account.example"
AUDIENCE = "https://qslice.example"


class TestIssuer:
    """An ES256 issuer; `document` is its JWKS, `token` signs any claims."""

    __test__ = False

    def __init__(self, kid: str | None = "ec1", name: str = ISSUER) -> None:
        self.kid = kid
        self.name = name
        self.key = ec.generate_private_key(ec.SECP256R1())

    def configured(self, **more: Any) -> Issuer:
        return Issuer(issuer=self.name, audience=AUDIENCE, jwks="keys.json", **more)

    def entry(self) -> dict[str, Any]:
        numbers = self.key.public_key().public_numbers()
        entry: dict[str, Any] = {
            "kty": "EC",
            "crv": "P-256",
            "x": base64url(numbers.x.to_bytes(32, "big")),
            "y": base64url(numbers.y.to_bytes(32, "big")),
        }
        if self.kid is not None:
            entry["kid"] = self.kid
        return entry

    def document(self) -> bytes:
        return orjson.dumps({"keys": [self.entry()]})

    def public_pem(self) -> bytes:
        return self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def claims(self, **changed: Any) -> dict[str, Any]:
        """Good claims, changed; None takes one away."""
        now = int(time.time())
        claims = {
            "iss": self.name,
            "sub": "user_account.example_0ma4rks06s9kxahxrgjhg6y41b",
            "aud": AUDIENCE,
            "iat": now,
            "exp": now + 3600,
            "proj_name": "lab",
            **changed,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, headers: dict[str, Any] | None = None, **changed: Any) -> str:
        named = {"kid": self.kid} if self.kid is not None else {}
        # Below `jwt.encode`, which refuses to write the claims that a forger would.
        return jwt.PyJWS().encode(
            orjson.dumps(self.claims(**changed)),
            self.key,
            algorithm="ES256",
            headers={**named, **(headers or {})},
        )


def forged(header: dict[str, Any], claims: dict[str, Any], secret: bytes | None) -> str:
    """A token put together by hand: unsigned, or with HMAC under any secret."""
    signed = ".".join(base64url(orjson.dumps(part)) for part in (header, claims))
    signature = b"" if secret is None else hmac.new(secret, signed.encode(), sha256).digest()
    return f"{signed}.{base64url(signature)}"


def base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
