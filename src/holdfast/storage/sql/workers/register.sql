-- Adds a worker's row: from now on it may claim. lease_s: until it must be renewed.
INSERT INTO holdfast.worker (
    id, supervisor_id, lock_key, pid, host, app, code_version, started_at, renewed_at,
    expires_at, queues, job_names, name, closed
)
VALUES (
    %(id)s::bigint, %(supervisor_id)s::bigint, %(lock_key)s::bigint, %(pid)s::integer,
    %(host)s::text, %(app)s::text, %(code_version)s::text, holdfast.clock(), holdfast.clock(),
    holdfast.clock() + %(lease_s)s::float8 * interval '1 second', %(queues)s::text::jsonb,
    %(job_names)s::text[], %(name)s::text, %(closed)s::boolean
)
