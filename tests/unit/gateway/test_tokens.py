"""Which tokens are believed, and what of them."""

import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from qslice_gateway.auth.identity import Identity
from qslice_gateway.auth.keys import Keys
from qslice_gateway.auth.tokens import REMEMBERED_S, Tokens
from qslice_gateway.problems import Problem

from tests.support.issuers import AUDIENCE, ISSUER, TestIssuer, forged


@pytest.fixture(scope="module")
def issuer() -> TestIssuer:
    return TestIssuer()


def tokens(issuer: TestIssuer, **configured: Any) -> Tokens:
    return Tokens([Keys(issuer.configured(**configured), read=issuer.document)])


def identify(issuer: TestIssuer, token: str, **configured: Any) -> Identity:
    return tokens(issuer, **configured).identify(f"Bearer {token}")


def refused(issuer: TestIssuer, token: str, **configured: Any) -> Problem:
    with pytest.raises(Problem) as raised:
        identify(issuer, token, **configured)
    assert raised.value.status == 401
    return raised.value


def test_a_good_token_tells_who_it_is_and_which_projects_it_names(issuer: TestIssuer) -> None:
    identity = identify(issuer, issuer.token(proj_name=["lab", "other"]))
    assert identity.subject == "user_account.example_0ma4rks06s9kxahxrgjhg6y41b"
    assert identity.projects == {"lab", "other"}
    assert not identity.admin
    assert identity.experiment is None


def test_an_experiments_token_carries_the_experiment(issuer: TestIssuer) -> None:
    name = "exp_expauth.example_01kz1p6m81e2t9pdqdw3bpvmqb"
    assert identify(issuer, issuer.token(sub=name)).experiment == name


def test_an_expired_token_is_told_apart(issuer: TestIssuer) -> None:
    now = int(time.time())
    problem = refused(issuer, issuer.token(iat=now - 7200, exp=now - 3600))
    assert problem.code == "token_expired"


def test_the_leeway_is_the_issuers(issuer: TestIssuer) -> None:
    token = issuer.token(exp=int(time.time()) - 30)
    assert identify(issuer, token, leeway_s=60).subject
    assert refused(issuer, token, leeway_s=0).code == "token_expired"


@pytest.mark.parametrize("claim", ["iss", "sub", "aud", "exp", "iat"])
def test_a_token_without_a_required_claim_is_refused(issuer: TestIssuer, claim: str) -> None:
    refused(issuer, issuer.token(**{claim: None}))


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": "https://someone-else.example"},
        {"aud": []},
        {"iss": "https://evil.example"},
        {"iss": ["https://account.example"]},
        {"iss": ISSUER + "/"},
        {"iat": 4_000_000_000, "exp": 4_000_003_600},
        {"nbf": 4_000_000_000},
        {"exp": "tomorrow"},
        {"sub": 7},
        {"sub": ""},
        {"scope": 7},
    ],
    ids=str,
)
def test_a_token_with_a_wrong_claim_is_refused(issuer: TestIssuer, changed: dict[str, Any]) -> None:
    refused(issuer, issuer.token(**changed))


def test_an_unsigned_token_is_refused(issuer: TestIssuer) -> None:
    for algorithm in ("none", "None", "NONE"):
        header = {"alg": algorithm, "typ": "JWT", "kid": "ec1"}
        refused(issuer, forged(header, issuer.claims(), None))


def test_the_public_key_is_no_secret_to_sign_with(issuer: TestIssuer) -> None:
    header = {"alg": "HS256", "typ": "JWT", "kid": "ec1"}
    for secret in (issuer.public_pem(), issuer.document(), b""):
        refused(issuer, forged(header, issuer.claims(), secret))


def test_another_algorithm_than_the_issuers_is_refused(issuer: TestIssuer) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    refused(issuer, jwt.encode(issuer.claims(), key, algorithm="ES384", headers={"kid": "ec1"}))


def test_a_token_of_another_key_under_the_same_id_is_refused(issuer: TestIssuer) -> None:
    refused(issuer, TestIssuer().token())


def test_a_key_that_the_token_brings_along_is_not_looked_at(issuer: TestIssuer) -> None:
    evil = TestIssuer()
    refused(issuer, evil.token(headers={"jwk": evil.entry()}))
    refused(issuer, evil.token(headers={"jku": "https://evil.example/keys", "kid": "evil"}))


def test_a_changed_payload_breaks_the_signature(issuer: TestIssuer) -> None:
    head, _, signature = issuer.token().split(".")
    _, payload, _ = issuer.token(proj_name="other").split(".")
    refused(issuer, f"{head}.{payload}.{signature}")


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Basic YTpi", "Bearer a.b", "Bearer " + "a" * 20_000]
)
def test_what_is_no_bearer_token_is_refused(issuer: TestIssuer, header: str | None) -> None:
    with pytest.raises(Problem) as raised:
        tokens(issuer).identify(header)
    assert raised.value.code == "unauthorized"


def test_a_token_of_one_issuer_cannot_pass_as_anothers(issuer: TestIssuer) -> None:
    other = TestIssuer(name="https://other.example")
    both = Tokens(
        [
            Keys(issuer.configured(), read=issuer.document),
            Keys(other.configured(subject_prefix="other:"), read=other.document),
        ]
    )
    assert both.identify(f"Bearer {other.token(sub='bob')}").subject == "other:bob"
    assert both.identify(f"Bearer {issuer.token(sub='bob')}").subject == "bob"
    with pytest.raises(Problem):
        both.identify(f"Bearer {other.token(iss=ISSUER)}")


def test_the_admin_scope_counts_only_where_the_issuer_may_grant_it(issuer: TestIssuer) -> None:
    token = issuer.token(scope="openid qslice:admin")
    assert not identify(issuer, token).admin
    assert identify(issuer, token, grants_admin=True).admin
    assert not identify(issuer, issuer.token(scope="qslice:admins"), grants_admin=True).admin


def test_administrators_can_be_named_by_their_subject(issuer: TestIssuer) -> None:
    assert identify(issuer, issuer.token(sub="root"), admins=frozenset({"root"})).admin
    assert not identify(issuer, issuer.token(sub="bob"), admins=frozenset({"root"})).admin


def test_names_that_are_no_projects_name_nothing(issuer: TestIssuer) -> None:
    assert identify(issuer, issuer.token(proj_name=["lab", "*", "a.b", 7, "qslice"])).projects == {
        "lab"
    }
    assert identify(issuer, issuer.token(proj_name=None)).projects == set()


def test_a_verified_token_is_remembered_a_minute_and_never_beyond_its_end(
    issuer: TestIssuer,
) -> None:
    now = [time.time()]
    read = [issuer.document]
    keys = Keys(issuer.configured(), 0.0, read=lambda: read[0]())
    both = Tokens([keys], clock=lambda: now[0])
    long, short = issuer.token(), issuer.token(exp=int(now[0]) + 20)
    assert both.identify(f"Bearer {long}") is both.identify(f"Bearer {long}")
    remembered = both.identify(f"Bearer {short}")
    now[0] += 19
    assert both.identify(f"Bearer {short}") is remembered
    now[0] += 2
    # Verified anew by the real clock, which has not moved.
    assert both.identify(f"Bearer {short}") is not remembered
    before = both.identify(f"Bearer {long}")
    now[0] += REMEMBERED_S
    assert both.identify(f"Bearer {long}") is not before


def test_a_refused_token_is_not_remembered_as_good(issuer: TestIssuer) -> None:
    both = tokens(issuer)
    bad = TestIssuer().token()
    for _ in range(2):
        with pytest.raises(Problem):
            both.identify(f"Bearer {bad}")


def test_the_answer_does_not_repeat_the_token(issuer: TestIssuer) -> None:
    token = issuer.token(aud=AUDIENCE + "x")
    problem = refused(issuer, token)
    assert token not in str(problem.body())
