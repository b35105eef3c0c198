#!/bin/sh
# Runs the tests that touch the database on the system's PostgreSQL: a second major version.
set -eu
python=$1
jobs=$2
if ! ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1; then
    echo "NOT RUN on a second PostgreSQL version: none is installed (package 'postgresql')" >&2
    exit 0
fi
HOLDFAST_TEST_POSTGRES=system "$python" -m pytest -n "$jobs" tests/db tests/runtime tests/drivers tests/pooler -m "not slow"
