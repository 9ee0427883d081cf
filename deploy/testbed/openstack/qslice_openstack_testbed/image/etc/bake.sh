#!/bin/bash
# Makes databases, keys, catalogue and seed inside the image: a start need not.
set -euo pipefail
. /opt/testbed/lib.sh
PYTHON=/usr/lib/python3/dist-packages

mariadb-install-db --user=mysql --skip-test-db >/dev/null
start_base
mariadb -e "CREATE USER testbed@'127.0.0.1' IDENTIFIED BY '$PASSWORD'; CREATE USER testbed@localhost IDENTIFIED BY '$PASSWORD';"
for name in keystone glance placement nova_api nova nova_cell0 neutron cinder; do
    mariadb -e "CREATE DATABASE $name CHARACTER SET utf8; GRANT ALL ON $name.* TO testbed@'127.0.0.1'; GRANT ALL ON $name.* TO testbed@localhost;"
done

say "Keystone's tables"
mkdir -p /etc/keystone/fernet-keys /etc/keystone/credential-keys
chown keystone: /etc/keystone/fernet-keys /etc/keystone/credential-keys
as keystone keystone-manage db_sync
keystone-manage fernet_setup --keystone-user keystone --keystone-group keystone
keystone-manage credential_setup --keystone-user keystone --keystone-group keystone
as keystone keystone-manage bootstrap --bootstrap-password "$PASSWORD" --bootstrap-region-id RegionOne \
    --bootstrap-public-url http://127.0.0.1:5000 --bootstrap-internal-url http://127.0.0.1:5000 --bootstrap-admin-url http://127.0.0.1:5000

say "the other services' tables"
mkdir -p /var/lib/{nova/instances,nova/lock,cinder/lock,glance/images,glance/lock,neutron/lock,placement/lock}
for name in nova cinder glance neutron placement; do chown -R $name: /var/lib/$name; done
(as glance glance-manage db_sync && as placement placement-manage db sync && as cinder cinder-manage db sync) >$LOGS/sync1.log 2>&1 &
first=$!
as neutron neutron-db-manage --config-file /etc/neutron/neutron.conf --config-file /etc/neutron/plugins/ml2/ml2_conf.ini upgrade heads >$LOGS/sync2.log 2>&1 &
second=$!
(
    as nova nova-manage api_db sync
    as nova nova-manage cell_v2 map_cell0 --database_connection "mysql+pymysql://testbed:$PASSWORD@127.0.0.1/nova_cell0?charset=utf8"
    as nova nova-manage db sync
    as nova nova-manage cell_v2 create_cell --name cell1
) >$LOGS/sync3.log 2>&1 &
third=$!
wait $first && wait $second && wait $third || { tail -n 30 $LOGS/sync*.log; exit 1; }

say "users and catalogue"
python3 -c 'import uuid; print(uuid.uuid4())' >/var/lib/nova/compute_id
chown nova: /var/lib/nova/compute_id
start_keystone
wait_for 90 Keystone answers 5000
python3 /opt/testbed/seed.py catalogue
start_placement
wait_for 90 Placement answers 8778
start_neutron
start_glance
start_cinder
wait_for 180 Neutron answers 9696
start_nova
wait_for 120 Nova answers 8774
wait_for 120 Cinder answers 8776
wait_for 120 Glance answers 9292
say "a host for the cell"
discovered() {
    as nova nova-manage cell_v2 discover_hosts && as nova nova-manage cell_v2 list_hosts | grep -q testbed
}
wait_for 120 nova-compute discovered
python3 /opt/testbed/seed.py cloud
say "a clean stop"
stop_all
rm -rf /var/lib/rabbitmq/mnesia $LOGS/* $RUN/*
