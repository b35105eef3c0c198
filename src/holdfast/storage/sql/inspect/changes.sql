-- Reads what has changed of jobs since the last time, whatever the order of commits was: row
-- versions of transactions from `floor` on that are not among those read already.
--
-- floor   the oldest transaction that ran at the last time (NULL: that runs now)
-- seen    the transactions from there on whose rows were read
-- since   nothing that ended before this has been committed later (NULL: a minute ago)
-- queue, name, states; NULL matches all. most: at most so many rows
-- Returns beside each row, and without any in one row: the oldest and the next transaction, the
-- time, how many rows there are, the transactions that wrote them.
-- A transaction's number is compared by its age, which is right when numbers wrap around; those of
-- savepoints are like all others. Reads all live jobs: there is no index by change, and workers
-- shall not pay for one. Index: job_archive_finished.
WITH span AS MATERIALIZED (
    SELECT age(
        coalesce(%(floor)s::text::xid, pg_snapshot_xmin(pg_current_snapshot())::xid)
    ) AS most
),
changed AS MATERIALIZED (
    SELECT
        j.xmin::text AS xid, j.id, j.name, j.queue, j.state,
        CASE
            WHEN j.state <> 'available' OR j.run_at <= holdfast.clock() THEN j.state
            WHEN j.wait_reason = 'retry' THEN 'retryable'
            WHEN j.wait_reason IS NOT NULL THEN 'waiting'
            ELSE 'scheduled'
        END AS shown,
        j.epoch, j.failures, j.created_at, j.run_at, j.started_at,
        NULL::timestamptz AS finished_at, j.cancel_requested_at IS NOT NULL AS is_cancelled,
        j.wait_reason, j.wait_detail, j.progress, j.progress_text
    FROM holdfast.job AS j
    WHERE age(j.xmin) BETWEEN 0 AND (SELECT s.most FROM span AS s)
    UNION ALL
    SELECT
        f.xmin::text, f.id, f.name, f.queue, f.state, f.state, f.epoch, f.failures, f.created_at,
        f.run_at, f.started_at, f.finished_at, false, f.wait_reason, f.wait_detail, f.progress,
        f.progress_text
    FROM holdfast.job_archive AS f
    WHERE f.finished_at >= coalesce(
            %(since)s::timestamptz, holdfast.clock() - interval '1 minute'
        )
      AND age(f.xmin) BETWEEN 0 AND (SELECT s.most FROM span AS s)
),
wanted AS MATERIALIZED (
    SELECT
        c.xid, c.id, c.name, c.queue, c.state, c.shown, c.epoch, c.failures, c.created_at,
        c.run_at, c.started_at, c.finished_at, c.is_cancelled, c.wait_reason, c.wait_detail,
        c.progress, c.progress_text
    FROM changed AS c
    WHERE NOT c.xid = ANY (%(seen)s::text[])
      AND (%(queue)s::text IS NULL OR c.queue = %(queue)s::text)
      AND (%(name)s::text IS NULL OR c.name = %(name)s::text)
      AND (%(states)s::text[] IS NULL OR c.shown = ANY (%(states)s::text[]))
)
SELECT
    pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
    pg_snapshot_xmax(pg_current_snapshot())::text::bigint, holdfast.clock(),
    (SELECT count(*) FROM wanted), (SELECT array_agg(DISTINCT c.xid) FROM changed AS c),
    w.id, w.name, w.queue, w.state, w.shown, w.epoch, w.failures, w.created_at, w.run_at,
    w.started_at, w.finished_at, w.is_cancelled, w.wait_reason, w.wait_detail, w.progress,
    w.progress_text
FROM span AS s
LEFT JOIN LATERAL (
    SELECT
        c.id, c.name, c.queue, c.state, c.shown, c.epoch, c.failures, c.created_at, c.run_at,
        c.started_at, c.finished_at, c.is_cancelled, c.wait_reason, c.wait_detail, c.progress,
        c.progress_text
    FROM wanted AS c
    ORDER BY coalesce(c.finished_at, c.started_at, c.created_at) DESC, c.id DESC
    LIMIT %(most)s::integer
) AS w ON true
