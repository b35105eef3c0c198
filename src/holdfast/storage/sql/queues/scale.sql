-- Sets how many jobs of a queue each process runs at once, for one worker or for all ('').
-- queue, worker, slots (NULL: what the worker was started with), channel. Locks: the setting's row.
WITH scaled AS (
    INSERT INTO holdfast.queue AS q (name, worker, slots, changed_at)
    VALUES (%(queue)s::text, %(worker)s::text, %(slots)s::integer, holdfast.clock())
    ON CONFLICT (name, worker) DO UPDATE
    SET slots = excluded.slots, changed_at = excluded.changed_at
    RETURNING q.name
)
SELECT pg_notify(%(channel)s::text, s.name) FROM scaled AS s
