"""An issuer's keys: which are used, and how often they are looked up."""

from collections.abc import Callable

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from qslice_gateway.auth.keys import MAX_AGE_S, Keys, KeysUnavailable

from tests.support.issuers import TestIssuer


class Document:
    """A JWKS document that counts how often it is read."""

    def __init__(self, read: Callable[[], bytes]) -> None:
        self.read = read
        self.times = 0

    def __call__(self) -> bytes:
        self.times += 1
        return self.read()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_an_unknown_key_is_looked_up_again_but_not_for_every_token() -> None:
    issuer, document, clock = TestIssuer(), Document(TestIssuer().document), Clock()
    document.read = issuer.document
    keys = Keys(issuer.configured(), 30.0, read=document, clock=clock)
    assert keys.find("ec1") is not None
    for number in range(100):
        assert keys.find(f"invented{number}") is None
    assert document.times == 1
    clock.now += 31
    assert keys.find("invented") is None
    assert keys.find("invented again") is None
    assert document.times == 2


def test_a_new_key_is_found_once_the_floor_is_over() -> None:
    old, new, clock = TestIssuer("a"), TestIssuer("b"), Clock()
    document = Document(old.document)
    keys = Keys(old.configured(), 30.0, read=document, clock=clock)
    assert keys.find("a") is not None
    document.read = new.document
    clock.now += 31
    assert keys.find("b") is not None
    assert keys.find("a") is None, "a withdrawn key is not used any more"


def test_a_withdrawn_key_is_forgotten_after_a_while_also_if_nobody_asks_for_a_new_one() -> None:
    old, new, clock = TestIssuer("a"), TestIssuer("b"), Clock()
    document = Document(old.document)
    keys = Keys(old.configured(), 30.0, read=document, clock=clock)
    assert keys.find("a") is not None
    document.read = new.document
    clock.now += MAX_AGE_S + 1
    assert keys.find("a") is None


def test_the_old_keys_stay_good_while_the_issuer_is_away() -> None:
    def away() -> bytes:
        raise OSError("no route")

    issuer, clock = TestIssuer(), Clock()
    document = Document(issuer.document)
    keys = Keys(issuer.configured(), 30.0, read=document, clock=clock)
    assert keys.find("ec1") is not None
    document.read = away
    clock.now += MAX_AGE_S + 1
    assert keys.find("ec1") is not None


@pytest.mark.parametrize(
    "document", [b"", b"{}", b"[]", b'{"keys": 7}', b'{"keys": []}', b'{"keys": [7, {}]}']
)
def test_without_any_usable_key_nobody_is_let_in(document: bytes) -> None:
    keys = Keys(TestIssuer().configured(), read=lambda: document)
    with pytest.raises(KeysUnavailable):
        keys.find("ec1")


def test_keys_for_other_purposes_and_algorithms_are_passed_over() -> None:
    issuer = TestIssuer()
    other = RSAAlgorithm.to_jwk(
        rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key(), as_dict=True
    )
    document = {
        "keys": [
            {**other, "kid": "rsa"},
            {**issuer.entry(), "kid": "enc", "use": "enc"},
            {**issuer.entry(), "kid": "es384", "alg": "ES384"},
            {"kty": "oct", "k": "c2VjcmV0", "kid": "secret"},
            {**issuer.entry(), "kid": "broken", "x": "AAAA"},
            issuer.entry(),
        ]
    }
    keys = Keys(issuer.configured(), read=lambda: orjson.dumps(document))
    assert keys.find("ec1") is not None
    for kid in ("rsa", "enc", "es384", "secret", "broken"):
        assert keys.find(kid) is None


def test_a_token_without_a_key_id_is_checked_only_where_there_is_one_key() -> None:
    issuer, second = TestIssuer("a"), TestIssuer("b")
    one = Keys(issuer.configured(), read=issuer.document)
    assert one.find(None) is not None
    document = orjson.dumps({"keys": [issuer.entry(), second.entry()]})
    assert Keys(issuer.configured(), read=lambda: document).find(None) is None
