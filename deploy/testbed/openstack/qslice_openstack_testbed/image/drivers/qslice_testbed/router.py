"""Routers without an L3 agent: a floating IP's status follows its port at once."""

from neutron.services.l3_router import l3_router_plugin
from neutron_lib import constants


class RouterPlugin(l3_router_plugin.L3RouterPlugin):
    def create_floatingip(self, context, floatingip):
        return self._told(context, super().create_floatingip(context, floatingip))

    def update_floatingip(self, context, id, floatingip):
        return self._told(context, super().update_floatingip(context, id, floatingip))

    def disassociate_floatingips(self, context, port_id, *args, **kwargs):
        floating = self.get_floatingips(context.elevated(), filters={"port_id": [port_id]})
        routers = super().disassociate_floatingips(context, port_id, *args, **kwargs)
        for address in floating:
            self.update_floatingip_status(
                context.elevated(), address["id"], constants.FLOATINGIP_STATUS_DOWN
            )
        return routers

    def _told(self, context, floatingip):
        status = (
            constants.FLOATINGIP_STATUS_ACTIVE
            if floatingip.get("port_id")
            else constants.FLOATINGIP_STATUS_DOWN
        )
        self.update_floatingip_status(context.elevated(), floatingip["id"], status)
        return {**floatingip, "status": status}
