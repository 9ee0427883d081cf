"""Users, endpoints, networks, flavours and an image; `catalogue` needs Keystone, `cloud` all."""

import json
import os
import secrets
import sys
from pathlib import Path

import openstack

PASSWORD = Path("/opt/testbed/service-password").read_text()
AUTH_URL = "http://127.0.0.1:5000/v3"
SERVICES = {
    "glance": ("image", 9292, ""),
    "placement": ("placement", 8778, ""),
    "nova": ("compute", 8774, "/v2.1"),
    "neutron": ("network", 9696, ""),
    "cinder": ("block-storage", 8776, "/v3/%(project_id)s"),
}
PROJECTS = ("lab-a", "lab-b")
FLAVORS = {
    "m1.tiny": (1, 256, 1),
    "m1.small": (1, 2048, 20),
    "m1.medium": (2, 4096, 40),
    "m1.large": (4, 8192, 80),
}


def connect(**auth):
    return openstack.connection.Connection(
        auth={"auth_url": AUTH_URL, "user_domain_name": "Default", "project_domain_name": "Default", **auth},
        region_name="RegionOne",
        identity_api_version="3",
    )


def admin():
    return connect(username="admin", password=PASSWORD, project_name="admin")


def catalogue():
    cloud = admin()
    service_project = cloud.identity.create_project(name="service", domain_id="default")
    roles = {role.name: role for role in cloud.identity.roles()}
    for name in ("service", "member", "reader"):
        if name not in roles:
            roles[name] = cloud.identity.create_role(name=name)
    for name, (kind, port, path) in SERVICES.items():
        user = cloud.identity.create_user(name=name, password=PASSWORD, domain_id="default")
        for role in ("admin", "service"):
            cloud.identity.assign_project_role_to_user(service_project, user, roles[role])
        service = cloud.identity.create_service(name=name, type=kind)
        for interface in ("public", "internal", "admin"):
            cloud.identity.create_endpoint(
                service_id=service.id,
                interface=interface,
                region_id="RegionOne",
                url=f"http://127.0.0.1:{port}{path}",
            )


def cloud():
    cloud = admin()
    for name, (cpus, memory, disk) in FLAVORS.items():
        cloud.compute.create_flavor(name=name, vcpus=cpus, ram=memory, disk=disk)
    for name in ("debian-12", "cirros-0.6"):
        image = cloud.image.create_image(
            name=name, disk_format="raw", container_format="bare", visibility="public", min_disk=1, min_ram=64
        )
        image.upload(cloud.image, data=b"\0" * 1024)
    cloud.block_storage.create_type(name="testbed")
    external = cloud.network.create_network(
        name="public",
        **{"router:external": True, "provider:network_type": "flat", "provider:physical_network": "public"},
    )
    cloud.network.create_subnet(
        network_id=external.id, name="public", ip_version=4, cidr="203.0.113.0/24", enable_dhcp=False
    )
    clouds = {}
    member = cloud.identity.find_role("member")
    for number, name in enumerate(PROJECTS):
        project = cloud.identity.create_project(name=name, domain_id="default")
        password = secrets.token_hex(12)
        user = cloud.identity.create_user(name=name, password=password, domain_id="default")
        cloud.identity.assign_project_role_to_user(project, user, member)
        cloud.compute.update_quota_set(project.id, instances=60, cores=200, ram=512000)
        cloud.block_storage.update_quota_set(project.id, volumes=60, gigabytes=5000)
        router = cloud.network.create_router(
            name=f"{name}-router", project_id=project.id, external_gateway_info={"network_id": external.id}
        )
        for part in range(2):
            network = cloud.network.create_network(name=f"{name}-net{part}", project_id=project.id)
            subnet = cloud.network.create_subnet(
                network_id=network.id,
                project_id=project.id,
                name=f"{name}-net{part}",
                ip_version=4,
                cidr=f"10.{10 + number}.{part * 16}.0/20",
            )
            cloud.network.add_interface_to_router(router, subnet_id=subnet.id)
        clouds[name] = {
            "auth_type": "password",
            "auth": {
                "auth_url": AUTH_URL,
                "username": name,
                "password": password,
                "project_name": name,
                "user_domain_name": "Default",
                "project_domain_name": "Default",
            },
            "region_name": "RegionOne",
            "interface": "public",
            "identity_api_version": 3,
        }
    clouds["admin"] = {
        **clouds["lab-a"],
        "auth": {**clouds["lab-a"]["auth"], "username": "admin", "password": PASSWORD, "project_name": "admin"},
    }
    # JSON is YAML too.
    path = Path("/opt/testbed/clouds.yaml")
    path.write_text(json.dumps({"clouds": clouds}, indent=2))
    os.chmod(path, 0o600)


if __name__ == "__main__":
    {"catalogue": catalogue, "cloud": cloud}[sys.argv[1]]()
