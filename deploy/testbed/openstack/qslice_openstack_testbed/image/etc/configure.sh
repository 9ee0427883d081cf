#!/bin/bash
# Writes every service's configuration; run once, while the image is made.
set -euo pipefail
PASSWORD=$(tr -dc a-z0-9 </dev/urandom | head -c 24 || true)
printf '%s' "$PASSWORD" >/opt/testbed/service-password
chmod 600 /opt/testbed/service-password

database() { echo "mysql+pymysql://testbed:$PASSWORD@127.0.0.1/$1?charset=utf8"; }
BUS="rabbit://testbed:$PASSWORD@127.0.0.1:5672/"

common() { # service
    cat <<EOF
[DEFAULT]
host = testbed
transport_url = $BUS
log_dir = /var/log/testbed
use_stderr = false
[oslo_messaging_rabbit]
heartbeat_in_pthread = false
[oslo_messaging_notifications]
driver = noop
[oslo_concurrency]
lock_path = /var/lib/$1/lock
[keystone_authtoken]
www_authenticate_uri = http://127.0.0.1:5000
auth_url = http://127.0.0.1:5000
auth_type = password
username = $1
password = $PASSWORD
project_name = service
user_domain_name = Default
project_domain_name = Default
memcached_servers = 127.0.0.1:11211
service_token_roles = service
service_token_roles_required = true
EOF
}

login() { # service whose user signs in
    cat <<EOF
auth_url = http://127.0.0.1:5000
auth_type = password
username = $1
password = $PASSWORD
project_name = service
user_domain_name = Default
project_domain_name = Default
region_name = RegionOne
EOF
}

cat >/etc/keystone/keystone.conf <<EOF
[DEFAULT]
log_dir = /var/log/testbed
[database]
connection = $(database keystone)
[identity]
password_hash_rounds = 4
max_password_length = 72
[token]
provider = fernet
expiration = 86400
[cache]
enabled = true
backend = dogpile.cache.memcached
memcache_servers = 127.0.0.1:11211
EOF

{
    common glance
    cat <<EOF
[database]
connection = $(database glance)
[paste_deploy]
flavor = keystone
[glance_store]
default_backend = file
[DEFAULT]
enabled_backends = file:file
[file]
filesystem_store_datadir = /var/lib/glance/images
EOF
} >/etc/glance/glance-api.conf

{
    common placement
    cat <<EOF
[placement_database]
connection = $(database placement)
[api]
auth_strategy = keystone
EOF
} >/etc/placement/placement.conf

{
    common nova
    cat <<EOF
[DEFAULT]
compute_driver = testbed.TestbedDriver
state_path = /var/lib/nova
instances_path = /var/lib/nova/instances
report_interval = 5
service_down_time = 60
vif_plugging_is_fatal = false
vif_plugging_timeout = 0
allow_resize_to_same_host = true
max_concurrent_builds = 20
sync_power_state_interval = 10
osapi_compute_workers = 1
[api_database]
connection = $(database nova_api)
[database]
connection = $(database nova)
[api]
auth_strategy = keystone
[glance]
api_servers = http://127.0.0.1:9292
[placement]
$(login placement)
[neutron]
service_metadata_proxy = false
$(login neutron)
[cinder]
os_region_name = RegionOne
$(login cinder)
[service_user]
send_service_user_token = true
$(login nova)
[vnc]
enabled = true
novncproxy_base_url = http://127.0.0.1:6080/vnc_lite.html
[conductor]
workers = 1
[scheduler]
workers = 1
discover_hosts_in_cells_interval = -1
[filter_scheduler]
enabled_filters = ComputeFilter,ComputeCapabilitiesFilter,ImagePropertiesFilter
[workarounds]
skip_cpu_compare_on_dest = true
[quota]
driver = nova.quota.DbQuotaDriver
EOF
} >/etc/nova/nova.conf

{
    common neutron
    cat <<EOF
[DEFAULT]
core_plugin = ml2
service_plugins = qslice_testbed.router.RouterPlugin
auth_strategy = keystone
allow_overlapping_ips = true
rpc_workers = 0
rpc_state_report_workers = 0
api_workers = 1
dhcp_agent_notification = false
l3_ha = false
notify_nova_on_port_status_changes = false
notify_nova_on_port_data_changes = false
[database]
connection = $(database neutron)
[quotas]
quota_port = 2000
quota_floatingip = 200
[nova]
$(login nova)
EOF
} >/etc/neutron/neutron.conf
mkdir -p /etc/neutron/plugins/ml2
cat >/etc/neutron/plugins/ml2/ml2_conf.ini <<EOF
[ml2]
type_drivers = flat,vlan,vxlan,local
tenant_network_types = vxlan
mechanism_drivers = testbed
extension_drivers = port_security
[ml2_type_flat]
flat_networks = *
[ml2_type_vxlan]
vni_ranges = 1:10000
EOF

{
    common cinder
    cat <<EOF
[DEFAULT]
enabled_backends = testbed
default_volume_type = testbed
auth_strategy = keystone
glance_api_servers = http://127.0.0.1:9292
report_interval = 5
osapi_volume_workers = 1
state_path = /var/lib/cinder
[database]
connection = $(database cinder)
[testbed]
volume_driver = qslice_testbed.volumes.TestbedDriver
volume_backend_name = testbed
[service_user]
send_service_user_token = true
$(login cinder)
[nova]
$(login nova)
EOF
} >/etc/cinder/cinder.conf

cat >/etc/mysql/mariadb.conf.d/99-testbed.cnf <<EOF
[mariadbd]
bind-address = 127.0.0.1
skip-log-bin
innodb_flush_log_at_trx_commit = 0
innodb_buffer_pool_size = 96M
# OpenStack reads rows first and writes them later; 11.6 and newer refuse that by default.
innodb_snapshot_isolation = OFF
max_connections = 400
skip-name-resolve
EOF
