"""A real OpenStack without a hypervisor, in one container on this machine."""
