-- Removes a rule of retention, so that a more general one counts. queue, state.
-- Returns whether there was one.
WITH gone AS (
    DELETE FROM holdfast.retention AS r
    WHERE r.queue = %(queue)s::text AND r.state = %(state)s::text
    RETURNING r.queue
)
SELECT EXISTS (SELECT 1 FROM gone)
