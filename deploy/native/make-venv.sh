#!/bin/sh
# Makes the virtual environment, also on a machine whose Python lacks the venv module, and over what
# an interrupted run left.
# usage: make-venv.sh DIRECTORY PYTHON
set -eu
directory=$1 python=$2

"$directory/bin/python" -m pip --version >/dev/null 2>&1 && exit 0

if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    if [ "$(id -u)" -ne 0 ] || [ ! -x /usr/bin/apt-get ]; then
        echo "!! $python has no venv module: install it (Debian: python3-venv)" >&2
        exit 1
    fi
    echo "== packages: installing python3-venv ..."
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq -o DPkg::Lock::Timeout=600 update
    apt-get -qq -o DPkg::Lock::Timeout=600 install --yes --no-install-recommends python3-venv \
        >/dev/null
fi
"$python" -m venv --clear "$directory"
