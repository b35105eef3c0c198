-- Reads the history of one job: every attempt or slice that was written down, oldest first.
-- job_id. Index: primary key.
-- A time that only a row made by hand can have (infinite, BC, beyond 9999) is shown as none, or as
-- the nearest: one such row would break the list of all others.
SELECT
    e.epoch, e.worker_id,
    CASE WHEN e.started_at BETWEEN era.low AND era.high THEN e.started_at END,
    greatest(era.low, least(e.ended_at, era.high)),
    e.outcome, e.charged, e.reason, e.error_type, e.error_message, e.error_stack,
    e.error_fingerprint,
    CASE WHEN e.next_at BETWEEN era.low AND era.high THEN e.next_at END
FROM holdfast.execution AS e
CROSS JOIN (
    VALUES (timestamptz '1970-01-01 00:00:00+00', timestamptz '9999-01-01 00:00:00+00')
) AS era (low, high)
WHERE e.job_id = %(job_id)s::bigint
ORDER BY e.epoch
