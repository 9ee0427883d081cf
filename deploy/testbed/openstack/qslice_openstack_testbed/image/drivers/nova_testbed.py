"""A compute driver without a hypervisor; a server's metadata says how its building goes.

`testbed-fail: <message>` ends in ERROR with that fault; `testbed-build-seconds: <n>|forever` keeps
the server in BUILD.
"""

import time

from nova import context as nova_context
from nova import exception, objects
from nova.virt import fake


class TestbedDriver(fake.FakeDriverWithoutFakeNodes):
    def init_host(self, host):
        super().init_host(host)
        # What was built before this process started still runs.
        everybody = nova_context.get_admin_context()
        for instance in objects.InstanceList.get_by_host(everybody, host):
            if instance.vm_state in ("active", "stopped"):
                self.instances[instance.uuid] = fake.FakeInstance(
                    instance.name, instance.power_state, instance.uuid
                )

    def spawn(self, context, instance, *args, **kwargs):
        metadata = instance.metadata
        seconds = metadata.get("testbed-build-seconds", "0")
        end = time.monotonic() + (float("inf") if seconds == "forever" else float(seconds))
        while time.monotonic() < end:
            # Nova deletes only once the building has ended, so it must notice.
            seen = objects.Instance.get_by_uuid(context.elevated(), instance.uuid)
            if seen.task_state == "deleting":
                raise exception.BuildAbortException(
                    instance_uuid=instance.uuid, reason="deleted while it was built"
                )
            time.sleep(min(0.5, max(0.0, end - time.monotonic())))
        if "testbed-fail" in metadata:
            raise exception.BuildAbortException(
                instance_uuid=instance.uuid, reason=metadata["testbed-fail"]
            )
        super().spawn(context, instance, *args, **kwargs)

