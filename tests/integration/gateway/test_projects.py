"""Projects over REST."""

from tests.support.gateway import TestGateway


def test_a_project_is_made_with_its_queues(house: TestGateway) -> None:
    answer = house.by("alice").post("/api/v1/projects", {"name": "lab"})
    assert answer.status_code == 201
    assert answer.json is not None
    assert answer.json["owner"] == "alice"
    assert answer.json["queues"] == [
        "lab.ToDo",
        "lab.ToDo.openstack",
        "lab.ToDo.k8s",
        "lab.Done",
        "lab.Dead",
    ]
