"""`python -m qslice_openstack_testbed up|down`; `up` leaves `.run/openstack/clouds.yaml`."""

import json
import os
import sys

from qslice_native.docker_engine import DEFAULT_HOST, connect
from qslice_native.places import checkout_root
from qslice_native.say import NativeError, say

from qslice_openstack_testbed import testbed


def main() -> None:
    if sys.argv[1:] not in (["up"], ["down"]):
        sys.exit("usage: python -m qslice_openstack_testbed up|down")
    host = os.environ.get("DOCKER_HOST", DEFAULT_HOST)
    client = connect(host, timeout=900)
    try:
        if sys.argv[1] == "down":
            testbed.down(client)
            return
        found = testbed.up(client, host)
    except NativeError as failed:
        sys.exit(f"== {testbed.TITLE}: {failed}")
    finally:
        client.close()
    path = checkout_root() / ".run" / "openstack" / "clouds.yaml"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(found, file, indent=2)
    say(testbed.TITLE, f"ready; {path} has the clouds {', '.join(found['clouds'])}")


if __name__ == "__main__":
    main()
