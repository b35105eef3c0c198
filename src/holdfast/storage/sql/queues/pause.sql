-- Pauses a queue for one worker, or for all ('' ): no job of it is started; running ones go on.
-- queue, worker, channel. Paused twice is paused. Locks: the setting's row.
WITH paused AS (
    INSERT INTO holdfast.queue AS q (name, worker, paused_at, changed_at)
    VALUES (%(queue)s::text, %(worker)s::text, holdfast.clock(), holdfast.clock())
    ON CONFLICT (name, worker) DO UPDATE
    SET paused_at = coalesce(q.paused_at, excluded.paused_at), changed_at = excluded.changed_at
    RETURNING q.name
)
SELECT pg_notify(%(channel)s::text, p.name) FROM paused AS p
