-- Reads the history of one job: every attempt or slice that was written down, oldest first.
-- job_id. Index: primary key.
SELECT
    e.epoch, e.worker_id, e.started_at, e.ended_at, e.outcome, e.charged, e.reason, e.error_type,
    e.error_message, e.error_stack, e.error_fingerprint, e.next_at
FROM holdfast.execution AS e
WHERE e.job_id = %(job_id)s::bigint
ORDER BY e.epoch
