-- Reads the journal of one job without its results, in the order the steps began.
-- job_id. Index: primary key.
SELECT
    s.key, s.seq, s.kind, s.state, s.epoch, s.attempts, s.started_at, s.finished_at, s.wake_at,
    s.code_version, coalesce(octet_length(s.result), octet_length(b.data), 0), s.error_type,
    s.error_message, s.error_stack
FROM holdfast.step AS s
LEFT JOIN holdfast.blob AS b ON b.job_id = s.job_id AND b.key = s.key
WHERE s.job_id = %(job_id)s::bigint
ORDER BY s.seq, s.key
