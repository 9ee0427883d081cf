"""A volume backend that stores nothing; a volume whose name ends in `error` cannot be made."""

from cinder import exception, interface
from cinder.volume import driver


@interface.volumedriver
class TestbedDriver(driver.VolumeDriver):
    VERSION = "1"

    def check_for_setup_error(self):
        pass

    def _update_volume_stats(self):
        self._stats = {
            "volume_backend_name": "testbed",
            "vendor_name": "qslice",
            "driver_version": self.VERSION,
            "storage_protocol": "testbed",
            "pools": [
                {
                    "pool_name": "testbed",
                    "total_capacity_gb": 100000,
                    "free_capacity_gb": 100000,
                    "reserved_percentage": 0,
                    "multiattach": True,
                    "thin_provisioning_support": False,
                    "QoS_support": False,
                }
            ],
        }

    def get_volume_stats(self, refresh=False):
        self._update_volume_stats()
        return self._stats

    def create_volume(self, volume):
        if (volume.display_name or "").endswith("error"):
            raise exception.VolumeBackendAPIException(data="asked to fail by the volume's name")

    def clone_image(self, context, volume, image_location, image_meta, image_service):
        self.create_volume(volume)
        return {}, True

    def create_volume_from_snapshot(self, volume, snapshot):
        self.create_volume(volume)

    def create_cloned_volume(self, volume, src_vref):
        self.create_volume(volume)

    def delete_volume(self, volume):
        pass

    def create_snapshot(self, snapshot):
        pass

    def delete_snapshot(self, snapshot):
        pass

    def extend_volume(self, volume, new_size):
        pass

    def ensure_export(self, context, volume):
        pass

    def create_export(self, context, volume, connector):
        pass

    def remove_export(self, context, volume):
        pass

    def initialize_connection(self, volume, connector, **kwargs):
        return {"driver_volume_type": "fake", "data": {"volume_id": volume.id}}

    def terminate_connection(self, volume, connector, **kwargs):
        pass
