"""A gateway on a database and a virtual host that the test has for itself."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gateway import Caller, TestGateway, Tokens, gateway


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return Tokens(tmp_path)


@pytest.fixture
def house(
    tokens: Tokens, database_url: str, broker_url: str, management_url: str
) -> Iterator[TestGateway]:
    with gateway(tokens, database_url, broker_url, management_url) as made:
        yield made
        management = made.services.management
        assert management is not None
        # Users are the broker's: they would outlive the virtual host.
        management.delete_lab_user("lab")


@pytest.fixture
def alice(house: TestGateway) -> Caller:
    """A person with a project of her own, `lab`."""
    caller = house.by("alice")
    assert caller.post("/api/v1/projects", {"name": "lab"}).status_code == 201
    return caller


@pytest.fixture
def mallory(house: TestGateway) -> Caller:
    """Somebody with a valid token and nothing to do with `lab`."""
    return house.by("mallory")
