"""The identity provider's part: clients, signed tokens, the keys to check them by."""

import os
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

#: What Keycloak gives a realm's keys by default.
ALGORITHM = "RS256"
#: May write to the registry; its tokens carry the registry's audience.
CLIENT_ID = "slices-mrs-backend-swagger"
#: The web portal's client: its tokens are good, but for another audience.
OTHER_CLIENT_ID = "slices-mrs-spa"
OTHER_AUDIENCE = "account"
_REMEMBERED = 256


class BadToken(Exception):
    """Why a token is refused, in the words of a WWW-Authenticate header."""


@dataclass(frozen=True)
class Realm:
    issuer: str
    audience: str
    client_secret: str
    key: rsa.RSAPrivateKey
    key_id: str


def _kept(path: Path, make: Any) -> bytes:
    """A secret's file, made once and readable by its owner alone."""
    if not path.exists():
        path.write_bytes(b"")
        path.chmod(0o600)
        path.write_bytes(make())
    return path.read_bytes()


def _new_key() -> bytes:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def open_realm(folder: Path, issuer: str, audience: str) -> Realm:
    """The realm whose key and client secret lie in a folder; both are made where they miss."""
    key = serialization.load_pem_private_key(_kept(folder / "realm-key.pem", _new_key), None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TypeError(f"{folder / 'realm-key.pem'} holds no RSA key")
    given = os.environ.get("QSLICE_MRS_TESTBED_CLIENT_SECRET")
    secret = (
        given.encode()
        if given
        else _kept(folder / "client-secret", lambda: secrets.token_urlsafe(24).encode())
    )
    return Realm(issuer, audience, secret.decode().strip(), key, "testbed-1")


class Tokens:
    """Issues and checks tokens; a token that was found good is not verified twice."""

    def __init__(self, realm: Realm) -> None:
        self.realm = realm
        self._good: OrderedDict[str, float] = OrderedDict()

    def issue(self, client_id: str, client_secret: str, life_s: int) -> str | None:
        """An access token, or None for a client that is none."""
        known = client_id in (CLIENT_ID, OTHER_CLIENT_ID)
        fits = secrets.compare_digest(client_secret.encode(), self.realm.client_secret.encode())
        if not (known and fits):
            return None
        now = int(time.time())
        claims = {
            "iss": self.realm.issuer,
            "aud": [
                self.realm.audience if client_id == CLIENT_ID else OTHER_AUDIENCE,
            ],
            "sub": f"service-account-{client_id}",
            "azp": client_id,
            "typ": "Bearer",
            "iat": now,
            "exp": now + life_s,
            "jti": secrets.token_hex(16),
        }
        return jwt.encode(
            claims, self.realm.key, algorithm=ALGORITHM, headers={"kid": self.realm.key_id}
        )

    def check(self, authorization: str | None) -> None:
        """Raise `BadToken` unless the header holds a token for this registry, in its time."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise BadToken("Bearer")
        if self._good.get(token, 0) > time.time():
            return
        try:
            claims = jwt.decode(
                token,
                self.realm.key.public_key(),
                algorithms=[ALGORITHM],
                audience=self.realm.audience,
                issuer=self.realm.issuer,
                options={"require": ["exp", "iat", "aud", "iss"]},
            )
        except jwt.ExpiredSignatureError:
            raise BadToken(
                'Bearer error="invalid_token", error_description="The token expired"'
            ) from None
        except jwt.InvalidAudienceError:
            raise BadToken(
                'Bearer error="invalid_token", error_description="The audience is invalid"'
            ) from None
        except jwt.InvalidTokenError as wrong:
            raise BadToken(
                f'Bearer error="invalid_token", error_description="{type(wrong).__name__}"'
            ) from None
        self._good[token] = float(claims["exp"])
        while len(self._good) > _REMEMBERED:
            self._good.popitem(last=False)

    def jwks(self) -> dict[str, Any]:
        public = jwt.algorithms.RSAAlgorithm.to_jwk(self.realm.key.public_key(), as_dict=True)
        return {"keys": [public | {"kid": self.realm.key_id, "alg": ALGORITHM, "use": "sig"}]}

    def forget(self) -> None:
        """No token that was issued before is good any more: the key is made anew."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.realm = Realm(
            self.realm.issuer, self.realm.audience, self.realm.client_secret, key, "testbed-2"
        )
        self._good.clear()
