"""Bearer tokens: JWTs of the configured issuers, each with one algorithm from configuration."""

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

import jwt
from jwt.exceptions import ExpiredSignatureError, PyJWTError

from qslice_gateway.auth.identity import Identity, of_claims
from qslice_gateway.auth.keys import Keys, KeysUnavailable
from qslice_gateway.problems import Problem

REQUIRED_CLAIMS = ["iss", "sub", "aud", "exp", "iat"]
MAX_TOKEN_CHARACTERS = 16 * 1024
#: Seconds for which a token that was verified is not verified again.
REMEMBERED_S = 60.0
REMEMBERED_TOKENS = 10_000


class Tokens:
    """Verifies tokens; safe to use from many threads."""

    def __init__(self, issuers: Iterable[Keys], clock: Callable[[], float] = time.time) -> None:
        self._issuers = {keys.issuer.issuer: keys for keys in issuers}
        self._clock = clock
        self._lock = threading.Lock()
        #: By the hash of the token, so that no token can be read from memory dumps of the cache.
        self._known: OrderedDict[bytes, tuple[Identity, float]] = OrderedDict()

    def identify(self, authorization: str | None) -> Identity:
        """Who sent an `Authorization` header; raises `Problem` 401 where nobody we know."""
        if authorization is None:
            raise Problem("unauthorized", "send the header 'Authorization: Bearer <token>'")
        scheme, _, token = authorization.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise Problem("unauthorized", "the Authorization header must be 'Bearer <token>'")
        if len(token) > MAX_TOKEN_CHARACTERS:
            raise Problem("unauthorized", "the token is too long")
        digest = hashlib.sha256(token.encode()).digest()
        known = self._known.get(digest)
        now = self._clock()
        if known is not None and now < known[1]:
            return known[0]
        identity = self._verify(token)
        self._remember(digest, identity, now)
        return identity

    def _verify(self, token: str) -> Identity:
        try:
            # Only to choose whose keys to check it with; nothing of it is believed yet.
            header = jwt.get_unverified_header(token)
            name = jwt.decode(token, options={"verify_signature": False}).get("iss")
            keys = self._issuers.get(name) if isinstance(name, str) else None
            if keys is None:
                raise Problem("unauthorized", "the token is of no issuer that is trusted here")
            issuer = keys.issuer
            if header.get("alg") != issuer.algorithm:
                raise Problem("unauthorized", f"tokens of this issuer use {issuer.algorithm}")
            kid = header.get("kid")
            key = keys.find(kid if isinstance(kid, str) else None)
            if key is None:
                raise Problem("unauthorized", "the token's key is not one of its issuer's")
            claims = jwt.decode(
                token,
                key,
                algorithms=[issuer.algorithm],
                audience=issuer.audience,
                issuer=issuer.issuer,
                leeway=issuer.leeway_s,
                options={"require": REQUIRED_CLAIMS, "strict_aud": False},
            )
            return of_claims(claims, issuer)
        except ExpiredSignatureError:
            raise Problem("token_expired", "get a new token and try again") from None
        except KeysUnavailable as wrong:
            raise Problem("issuer_unavailable", f"{wrong}; try again later") from None
        except (PyJWTError, ValueError) as wrong:
            raise Problem("unauthorized", f"the token is not valid: {wrong}") from None

    def _remember(self, digest: bytes, identity: Identity, now: float) -> None:
        with self._lock:
            self._known[digest] = (identity, min(identity.expires_at, now + REMEMBERED_S))
            self._known.move_to_end(digest)
            while len(self._known) > REMEMBERED_TOKENS:
                self._known.popitem(last=False)
