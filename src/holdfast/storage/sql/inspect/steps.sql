-- Reads the journal of one job without its results, in the order the steps began.
-- job_id. Index: primary key.
-- A time that only a row made by hand can have (infinite, BC, beyond 9999) is shown as none, or as
-- the nearest: one such row would break the list of all others.
SELECT
    s.key, s.seq, s.kind, s.state, s.epoch, s.attempts,
    greatest(era.low, least(s.started_at, era.high)),
    greatest(era.low, least(s.finished_at, era.high)),
    CASE WHEN s.wake_at BETWEEN era.low AND era.high THEN s.wake_at END,
    s.code_version, coalesce(octet_length(s.result), octet_length(b.data), 0), s.error_type,
    s.error_message, s.error_stack
FROM holdfast.step AS s
LEFT JOIN holdfast.blob AS b ON b.job_id = s.job_id AND b.key = s.key
CROSS JOIN (
    VALUES (timestamptz '1970-01-01 00:00:00+00', timestamptz '9999-01-01 00:00:00+00')
) AS era (low, high)
WHERE s.job_id = %(job_id)s::bigint
ORDER BY s.seq, s.key
