-- Marks jobs as awaited, so that their end notifies; a job that is not live is left alone.
-- ids, wake_channel. Locks: the job rows, only where the mark is missing. Index: primary key. HOT.
-- A claim that came by while a row was locked has skipped it and will not come again by itself:
-- so whoever locks the row of a due job wakes the workers when the lock is gone.
WITH marked AS (
    UPDATE holdfast.job AS j
    SET awaited = true
    WHERE j.id = ANY (%(ids)s::bigint[]) AND NOT j.awaited
    RETURNING j.queue, j.state, j.run_at
)
SELECT pg_notify(%(wake_channel)s::text, q.queue)
FROM (
    SELECT DISTINCT m.queue
    FROM marked AS m
    WHERE m.state = 'available' AND m.run_at <= holdfast.clock() + interval '10 seconds'
) AS q
