#!/bin/bash
# The container's program: launches everything, checks that it is ready, waits for the end.
set -euo pipefail
. /opt/testbed/lib.sh
rm -f /opt/testbed/ready $RUN/* $LOGS/*
trap 'stop_all; exit 0' TERM INT
start_all
python3 /opt/testbed/ready.py
touch /opt/testbed/ready
say ready
sleep infinity &
wait $!
