"""The public keys of one issuer: read from a file or fetched, and kept."""

import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson
import structlog
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from qslice_gateway.settings import LOOPBACK, Issuer

log = structlog.get_logger()

#: Seconds after which keys are looked up again, so that a withdrawn one is forgotten.
MAX_AGE_S = 900.0
MAX_DOCUMENT_BYTES = 256 * 1024
TIMEOUT_S = 5.0

#: The key type that belongs to an algorithm; another type's key is never tried with it.
_KEY_TYPES = {"ES": "EC", "RS": "RSA", "PS": "RSA", "Ed": "OKP"}


class KeysUnavailable(Exception):
    """The issuer's keys cannot be read."""


class Keys:
    """The keys of an issuer by their `kid`; safe to use from many threads.

    An unknown `kid` makes them be looked up again, but no sooner than `floor_s` after the last
    time: tokens with invented ids must not make the gateway call the issuer for each.
    """

    def __init__(
        self,
        issuer: Issuer,
        floor_s: float = 30.0,
        read: Callable[[], bytes] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.issuer = issuer
        self._floor_s = floor_s
        self._document = read or (lambda: _read(issuer))
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: dict[str | None, PyJWK] = {}
        self._read_at: float | None = None
        self._tried_at: float | None = None

    def find(self, kid: str | None) -> PyJWK | None:
        """The key of an id, or the only key where a token names none; None: there is none.

        Raises `KeysUnavailable` where no keys could be read yet.
        """
        found = self._look(kid)
        now = self._clock()
        old = self._read_at is None or now - self._read_at > MAX_AGE_S
        if (found is None or old) and self._may_try(now):
            self._refresh(wait=found is None)
            found = self._look(kid)
        if self._read_at is None:
            raise KeysUnavailable(f"the keys of {self.issuer.issuer} cannot be read")
        return found

    def _look(self, kid: str | None) -> PyJWK | None:
        keys = self._keys
        if kid is None:
            return next(iter(keys.values())) if len(keys) == 1 else None
        return keys.get(kid)

    def _may_try(self, now: float) -> bool:
        return self._tried_at is None or now - self._tried_at >= self._floor_s

    def _refresh(self, *, wait: bool) -> None:
        """Look the keys up; who has one that is good goes on with it while another does that."""
        if not self._lock.acquire(blocking=wait):
            return
        try:
            now = self._clock()
            if not self._may_try(now):
                return
            try:
                self._keys = self._parse()
                self._read_at = now
            except (OSError, ValueError, httpx.HTTPError) as wrong:
                # The old keys stay good: an issuer's outage is not its people's.
                log.error("keys_unreadable", issuer=self.issuer.issuer, error=str(wrong))
            finally:
                self._tried_at = self._clock()
        finally:
            self._lock.release()

    def _parse(self) -> dict[str | None, PyJWK]:
        document = orjson.loads(self._document())
        entries = document.get("keys") if isinstance(document, dict) else None
        if not isinstance(entries, list):
            raise ValueError("the document has no list of keys")
        keys = [key for entry in entries if (key := self._usable(entry)) is not None]
        if not keys:
            raise ValueError(f"the document has no key for {self.issuer.algorithm}")
        return {key.key_id: key for key in keys}

    def _usable(self, entry: Any) -> PyJWK | None:
        """A public key fit for the issuer's one algorithm."""
        algorithm = self.issuer.algorithm
        if (
            not isinstance(entry, dict)
            or entry.get("kty") != _KEY_TYPES[algorithm[:2]]
            or entry.get("use", "sig") != "sig"
            or entry.get("alg", algorithm) != algorithm
        ):
            return None
        try:
            return PyJWK(
                {name: value for name, value in entry.items() if name != "d"}, algorithm=algorithm
            )
        except PyJWTError as wrong:
            log.warning("key_passed_over", issuer=self.issuer.issuer, error=str(wrong))
            return None


def _read(issuer: Issuer) -> bytes:
    """The JWKS document of an issuer, from its file or address."""
    if issuer.jwks_file is not None:
        return issuer.jwks_file.read_bytes()
    # A proxy of the environment is no way to this host itself.
    proxied = urlsplit(issuer.jwks).hostname not in LOOPBACK
    with (
        httpx.Client(timeout=TIMEOUT_S, follow_redirects=False, trust_env=proxied) as client,
        client.stream("GET", issuer.jwks) as answer,
    ):
        answer.raise_for_status()
        body = b""
        for part in answer.iter_bytes():
            body += part
            if len(body) > MAX_DOCUMENT_BYTES:
                raise ValueError(f"the document exceeds {MAX_DOCUMENT_BYTES} bytes")
        return body
