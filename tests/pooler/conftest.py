"""A real PgBouncer in front of the tests' server."""

from fixtures.pgbouncer import pgbouncer, pooled

__all__ = ["pgbouncer", "pooled"]
