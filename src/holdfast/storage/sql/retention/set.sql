-- Sets how long finished jobs are kept. queue and state ('' means any); seconds (NULL: for ever).
INSERT INTO holdfast.retention AS r (queue, state, keep)
VALUES (%(queue)s::text, %(state)s::text, %(seconds)s::float8 * interval '1 second')
ON CONFLICT (queue, state) DO UPDATE SET keep = excluded.keep
