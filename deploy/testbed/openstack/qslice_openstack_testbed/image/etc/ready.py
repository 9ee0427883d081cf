"""Ends well once every service that was started now reports itself, and every API answers."""

import datetime
import json
import sys
import time
from pathlib import Path

import openstack

START = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
LIMIT_S = 120


def fresh(service):
    seen = datetime.datetime.fromisoformat(service.updated_at.rstrip("Z"))
    return service.state == "up" and seen > START


def ready(cloud):
    compute = {service.binary: fresh(service) for service in cloud.compute.services()}
    volumes = {service.binary: fresh(service) for service in cloud.block_storage.services()}
    waiting = [name for name, up in {**compute, **volumes}.items() if not up]
    list(cloud.image.images())
    list(cloud.network.networks())
    cloud.compute.get("/flavors").raise_for_status()
    return len(compute) >= 3 and len(volumes) >= 2 and not waiting, waiting


def main():
    config = json.loads(Path("/opt/testbed/clouds.yaml").read_text())["clouds"]["admin"]
    end = time.monotonic() + LIMIT_S
    problem = ""
    while time.monotonic() < end:
        try:
            cloud = openstack.connection.Connection(auth=config["auth"], region_name="RegionOne")
            done, waiting = ready(cloud)
            if done:
                return
            problem = f"not yet up: {', '.join(waiting)}"
        except Exception as error:  # whatever a service in its start answers
            problem = repr(error)
        time.sleep(0.5)
    sys.exit(f"testbed: not ready after {LIMIT_S} s: {problem}")


if __name__ == "__main__":
    main()
