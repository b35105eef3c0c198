-- Takes the supervisor's session lock, without waiting: it lives as long as this connection.
SELECT pg_try_advisory_lock(%(lock_key)s::bigint)
