# Starts and stops the parts; sourced while the image is made and at each start.
LOGS=/var/log/testbed
RUN=/run/testbed
mkdir -p $LOGS $RUN && chmod 1777 $LOGS
PASSWORD=$(cat /opt/testbed/service-password)

say() { echo "testbed: $*"; }

wait_for() { # seconds what command...
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        if ((SECONDS > end)); then
            say "$what did not come up"
            tail -n 20 $LOGS/*.log >&2 || true
            return 1
        fi
        sleep 0.2
    done
}

as() { # user command...: `su` would reset the limit of open files
    local user=$1
    shift
    setpriv --reuid "$user" --regid "$(id -g "$user")" --init-groups env HOME="$(getent passwd "$user" | cut -d: -f6)" "$@"
}

launch() { # name user command...
    local name=$1 user=$2
    shift 2
    as "$user" "$@" >>$LOGS/$name.out.log 2>&1 &
    echo $! >$RUN/$name.pid
}

start_base() {
    ulimit -n "$(ulimit -Hn)" || true
    mkdir -p /run/mysqld && chown mysql: /run/mysqld
    launch mariadb mysql mariadbd --user=mysql
    export RABBITMQ_NODENAME=rabbit@localhost RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 ERL_EPMD_ADDRESS=127.0.0.1
    export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none"
    launch rabbitmq rabbitmq /usr/lib/rabbitmq/bin/rabbitmq-server
    launch memcached memcache memcached -l 127.0.0.1 -m 64
    wait_for 60 MariaDB mariadb-admin ping
    wait_for 90 RabbitMQ as rabbitmq /usr/lib/rabbitmq/bin/rabbitmqctl await_startup --timeout 1
    as rabbitmq /usr/lib/rabbitmq/bin/rabbitmqctl -q add_user testbed "$PASSWORD" >/dev/null 2>&1 || true
    as rabbitmq /usr/lib/rabbitmq/bin/rabbitmqctl -q set_permissions testbed '.*' '.*' '.*' >/dev/null
}

api() { # name user port wsgi threads
    launch "$1" "$2" uwsgi_python3 --http-socket "0.0.0.0:$3" --wsgi-file "$4" --master \
        --processes 1 --threads "$5" --enable-threads --lazy-apps --need-app --die-on-term \
        --buffer-size 65535 --add-header 'Connection: close' --disable-logging --listen 100
}

start_keystone() { api keystone keystone 5000 /usr/bin/keystone-wsgi-public 4; }
start_glance() { api glance glance 9292 /usr/bin/glance-wsgi-api 4; }
start_placement() { api placement placement 8778 /usr/bin/placement-api 4; }
start_neutron() { OS_NEUTRON_CONFIG_FILES='/etc/neutron/neutron.conf;/etc/neutron/plugins/ml2/ml2_conf.ini' api neutron neutron 9696 /usr/bin/neutron-api 1; }
start_nova() {
    api nova-api nova 8774 /usr/bin/nova-api-wsgi 1
    launch nova-conductor nova nova-conductor
    launch nova-scheduler nova nova-scheduler
    launch nova-compute nova nova-compute
}
start_cinder() {
    api cinder-api cinder 8776 /usr/bin/cinder-wsgi 4
    launch cinder-scheduler cinder cinder-scheduler
    launch cinder-volume cinder cinder-volume
}

answers() { # port
    local code
    code=$(curl -s -o /dev/null -m 20 -w '%{http_code}' "http://127.0.0.1:$1/")
    [[ $code =~ ^(200|300|401)$ ]]
}

start_all() {
    start_base
    start_keystone
    start_placement
    wait_for 90 Keystone answers 5000
    wait_for 90 Placement answers 8778
    start_neutron
    start_glance
    start_cinder
    wait_for 120 Neutron answers 9696
    start_nova
    wait_for 90 Glance answers 9292
    wait_for 90 Cinder answers 8776
    wait_for 90 Nova answers 8774
}

stop_all() {
    local name
    for name in nova-compute cinder-volume nova-api nova-conductor nova-scheduler neutron glance cinder-api cinder-scheduler placement keystone memcached; do
        [[ -f $RUN/$name.pid ]] && kill "$(cat $RUN/$name.pid)" 2>/dev/null || true
    done
    sleep 1
    as rabbitmq /usr/lib/rabbitmq/bin/rabbitmqctl -q stop 2>/dev/null || true
    mariadb-admin shutdown || true
    wait || true
}
