-- Resumes a queue for one worker; for all ('') also where it was paused for one worker alone.
-- queue, worker, channel. Returns how many pauses ended. Locks: the settings' rows.
WITH resumed AS (
    UPDATE holdfast.queue AS q
    SET paused_at = NULL, changed_at = holdfast.clock()
    WHERE q.name = %(queue)s::text
      AND (q.worker = %(worker)s::text OR %(worker)s::text = '')
      AND q.paused_at IS NOT NULL
    RETURNING q.name
),
told AS MATERIALIZED (
    SELECT pg_notify(%(channel)s::text, %(queue)s::text) WHERE EXISTS (SELECT 1 FROM resumed)
)
SELECT count(*) FROM resumed WHERE (SELECT count(*) FROM told) >= 0
