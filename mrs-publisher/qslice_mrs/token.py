"""The registry's token: client credentials, asked for before it expires and once on a 401."""

import asyncio
import time
from dataclasses import dataclass

import httpx
import jwt
from pydantic import SecretStr

from qslice_mrs.errors import Unavailable

#: Seconds before its end at which a token is not used any more.
_MARGIN_S = 30.0
UNAUTHORIZED = "mrs_unauthorized"


@dataclass(frozen=True)
class _Token:
    value: str
    #: On the monotonic clock.
    good_until: float


class TokenSource:
    """One token for all requests; however many need a new one, it is asked for once."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        url: str,
        client_id: str,
        client_secret: SecretStr,
        audience: str = "",
    ) -> None:
        self._http = http
        self._url = url
        self._client_id = client_id
        self._client_secret = client_secret
        self._audience = audience
        self._token: _Token | None = None
        self._lock = asyncio.Lock()

    async def get(self, refused: str | None = None) -> str:
        """A token that is good; another one than `refused`. Raises `Unavailable`."""
        token = self._token
        if token is None or token.value == refused or token.good_until <= time.monotonic():
            async with self._lock:
                token = self._token
                if token is None or token.value == refused or token.good_until <= time.monotonic():
                    token = self._token = await self._fetch()
        return token.value

    async def _fetch(self) -> _Token:
        asked = time.monotonic()
        form = {
            "grant_type": "client_credentials",
            "client_id": self._client_id,
            "client_secret": self._client_secret.get_secret_value(),
        }
        if self._audience:
            form["audience"] = self._audience
        try:
            response = await self._http.post(self._url, data=form)
        except httpx.TransportError as wrong:
            raise Unavailable(
                "mrs_unavailable", f"the token endpoint does not answer ({_why(wrong)})"
            ) from None
        if response.status_code != 200:
            raise Unavailable(
                UNAUTHORIZED, "the token endpoint refused", response.status_code, response.text
            )
        try:
            answer = response.json()
            value = str(answer["access_token"])
            life = float(answer.get("expires_in", 60))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Unavailable(UNAUTHORIZED, "the token endpoint answered without a token") from None
        self._check_audience(value)
        return _Token(value, asked + max(life - _MARGIN_S, life / 2))

    def _check_audience(self, token: str) -> None:
        """Say at once what the registry would only answer by a bare 401."""
        if not self._audience:
            return
        try:
            claims = jwt.decode(token, options={"verify_signature": False})
        except jwt.InvalidTokenError:
            return  # Opaque tokens are the registry's own affair.
        found = claims.get("aud", [])
        if self._audience not in ([found] if isinstance(found, str) else found):
            raise Unavailable(
                UNAUTHORIZED,
                f"the token of client {self._client_id!r} is for {found!r}, not for "
                f"{self._audience!r}: the client needs an audience mapper in the realm",
            )


def _why(wrong: Exception) -> str:
    return str(wrong) or type(wrong).__name__
