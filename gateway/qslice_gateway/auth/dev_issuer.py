"""An issuer of our own, for development and for labs without one; off unless a key file is set.

Its key file is the power to be anyone: keep it from everybody but the operator.
"""

import base64
import os
import time
from collections.abc import Iterable
from pathlib import Path

import jwt
import orjson
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from qslice_gateway.auth.identity import ADMIN_SCOPE
from qslice_gateway.auth.keys import Keys
from qslice_gateway.settings import DEV_ISSUER, GatewaySettings, Issuer

KEY_ID = "dev1"
LIFE_S = 3600.0


def make_key(path: Path) -> None:
    """Write a new ES256 key, readable by its owner alone; raises `FileExistsError`."""
    key = ec.generate_private_key(ec.SECP256R1())
    text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(text)


def load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The key in a file; raises `ValueError` where it is no P-256 key, `OSError` without it."""
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError(f"{path} holds no P-256 private key")
    return key


def public_document(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The JWKS document of the key's public half."""
    numbers = key.public_key().public_numbers()
    entry = {
        "kty": "EC",
        "crv": "P-256",
        "kid": KEY_ID,
        "use": "sig",
        "alg": "ES256",
        "x": _base64url(numbers.x),
        "y": _base64url(numbers.y),
    }
    return orjson.dumps({"keys": [entry]})


def keys(settings: GatewaySettings) -> Keys | None:
    """The issuer, where it is switched on. Beside others its people get a prefix of their own."""
    if settings.dev_issuer_key is None:
        return None
    document = public_document(load_key(settings.dev_issuer_key))
    issuer = Issuer(
        issuer=DEV_ISSUER,
        audience=settings.audience,
        algorithm="ES256",
        jwks=str(settings.dev_issuer_key),
        subject_prefix="dev:" if settings.issuers else "",
        makes_projects="any",
        grants_admin=True,
    )
    return Keys(issuer, settings.jwks_refetch_s, read=lambda: document)


def make_token(
    key: ec.EllipticCurvePrivateKey,
    subject: str,
    *,
    audience: str,
    projects: Iterable[str] = (),
    admin: bool = False,
    life_s: float = LIFE_S,
) -> str:
    """A token for a person who may use these projects, good for `life_s` seconds from now."""
    now = int(time.time())
    claims: dict[str, object] = {
        "iss": DEV_ISSUER,
        "sub": subject,
        "aud": audience,
        "iat": now,
        "exp": now + int(life_s),
        "proj_name": list(projects),
    }
    if admin:
        claims["scope"] = ADMIN_SCOPE
    return jwt.encode(claims, key, algorithm="ES256", headers={"kid": KEY_ID})


def _base64url(number: int) -> str:
    return base64.urlsafe_b64encode(number.to_bytes(32, "big")).rstrip(b"=").decode()
