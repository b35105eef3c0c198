-- Lists jobs, newest first, for people. limit; before_id: keyset paging; NULL filters match all:
-- ids, queue, name, tag, shown (a state as shown: scheduled, retryable, waiting … too).
-- Reads the view over live and archived jobs; meant for people, not for hot paths.
-- A time that only a row made by hand can have (infinite, BC, beyond 9999) is shown as none, or as
-- the nearest: one such row would break the list of all others.
SELECT
    s.id, s.shown, s.state, s.queue, s.name, s.args::text, s.priority,
    greatest(era.low, least(s.run_at, era.high)),
    greatest(era.low, least(s.created_at, era.high)),
    CASE WHEN s.started_at BETWEEN era.low AND era.high THEN s.started_at END,
    CASE WHEN s.finished_at BETWEEN era.low AND era.high THEN s.finished_at END,
    CASE WHEN s.deadline BETWEEN era.low AND era.high THEN s.deadline END,
    CASE WHEN s.cancel_requested_at BETWEEN era.low AND era.high THEN s.cancel_requested_at END,
    s.failures, s.max_attempts,
    s.crashes, s.max_crashes, s.resumes, s.epoch, s.worker_id, s.wait_reason, s.wait_detail,
    s.code_version, s.tags, s.meta::text, s.progress, s.progress_done, s.progress_total,
    s.progress_text, s.now
FROM (
    SELECT
        v.*,
        holdfast.clock() AS now,
        CASE
            WHEN v.state <> 'available' OR v.run_at <= holdfast.clock() THEN v.state
            WHEN v.wait_reason = 'retry' THEN 'retryable'
            WHEN v.wait_reason IS NOT NULL THEN 'waiting'
            ELSE 'scheduled'
        END AS shown
    FROM holdfast.jobs AS v
) AS s
CROSS JOIN (
    VALUES (timestamptz '1970-01-01 00:00:00+00', timestamptz '9999-01-01 00:00:00+00')
) AS era (low, high)
WHERE (%(ids)s::bigint[] IS NULL OR s.id = ANY (%(ids)s::bigint[]))
  AND (%(queue)s::text IS NULL OR s.queue = %(queue)s::text)
  AND (%(name)s::text IS NULL OR s.name = %(name)s::text)
  AND (%(tag)s::text IS NULL OR %(tag)s::text = ANY (s.tags))
  AND (%(shown)s::text IS NULL OR s.shown = %(shown)s::text)
  AND (%(before_id)s::bigint IS NULL OR s.id < %(before_id)s::bigint)
ORDER BY s.id DESC
LIMIT %(limit)s::integer
