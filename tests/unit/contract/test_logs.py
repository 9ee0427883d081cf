import pytest
from hypothesis import given
from hypothesis import strategies as st
from qslice.logs import HIDDEN, clean, redact

SECRET = "hunter2-secret"


@pytest.mark.parametrize(
    "text",
    [
        f"amqp://user:{SECRET}@127.0.0.1:5672/v failed",
        f"postgresql://qslice:{SECRET}@host/db",
        f"Authorization: Bearer {SECRET}",
        f"token eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiIxIn0.{SECRET}",
    ],
)
def test_no_secret_survives_in_a_line(text: str) -> None:
    assert SECRET not in redact(text)
    assert HIDDEN in redact(text)


@pytest.mark.parametrize(
    "key", ["password", "client_secret", "Authorization", "user_jwt", "cookie"]
)
def test_what_stands_under_a_secret_s_name_is_hidden_at_any_depth(key: str) -> None:
    assert SECRET not in str(clean({"a": [{key: SECRET}], "b": ({"c": {key: {"d": SECRET}}},)}))


@given(st.text(st.characters(categories=["L", "N"])))
def test_plain_words_stay(text: str) -> None:
    assert clean(text) == text


def test_addresses_without_a_password_stay() -> None:
    assert redact("https://git.example/a at 10:30@x") == "https://git.example/a at 10:30@x"
