-- Moves first-time successes to the archive: the hot path of finishing, one statement for many.
--
-- worker_id; ids, epochs, results, codecs: one element a job; spills: the result goes to `blob`.
-- Returns the ids that were ours; a job missing from the answer had lost its lease.
-- A cancel that was acknowledged before this commit wins: the job ends `cancelled`, and only then
-- it pays a history row.
-- Locks: the job rows. Index: primary key (`id = ANY`). The guards stand inside CASE, where the
-- planner can make neither a join that may flip of them nor a walk along job_running, which has an
-- entry for every job the worker ever ran while dead rows are held back.
WITH given AS MATERIALIZED (
    SELECT g.id, g.epoch, g.result, g.codec, g.spill
    FROM unnest(
        %(ids)s::bigint[], %(epochs)s::bigint[], %(results)s::bytea[], %(codecs)s::smallint[],
        %(spills)s::boolean[]
    ) AS g (id, epoch, result, codec, spill)
),
gone AS (
    DELETE FROM holdfast.job AS j
    WHERE j.id = ANY (%(ids)s::bigint[])
      AND CASE
          WHEN j.state = 'executing'
              AND j.worker_id = %(worker_id)s::bigint
              AND (j.id, j.epoch) IN (SELECT g.id, g.epoch FROM given AS g)
          THEN true
      END
    RETURNING
        j.id, j.epoch, j.run_at, j.created_at, j.started_at, j.deadline, j.cancel_requested_at,
        j.failures, j.max_attempts, j.crashes, j.max_crashes, j.resumes, j.priority, j.awaited,
        j.queue, j.name, j.args, j.tags, j.meta, j.code_version, j.wait_detail, j.progress,
        j.progress_done, j.progress_total, j.progress_text, j.unique_key
),
kept AS (
    INSERT INTO holdfast.job_archive (
        id, epoch, worker_id, run_at, created_at, started_at, finished_at, deadline,
        cancel_requested_at, failures, max_attempts, crashes, max_crashes, resumes, priority,
        codec, spilled, state, queue, name, args, tags, meta, code_version, wait_reason,
        wait_detail, progress, progress_done, progress_total, progress_text, result, unique_key
    )
    SELECT
        d.id, d.epoch, %(worker_id)s::bigint, d.run_at, d.created_at, d.started_at,
        holdfast.clock(), d.deadline, d.cancel_requested_at, d.failures, d.max_attempts,
        d.crashes, d.max_crashes, d.resumes, d.priority, g.codec, g.spill,
        CASE WHEN d.cancel_requested_at IS NULL THEN 'completed' ELSE 'cancelled' END,
        d.queue, d.name, d.args, d.tags, d.meta, d.code_version,
        CASE WHEN d.cancel_requested_at IS NOT NULL THEN 'cancelled' END,
        d.wait_detail, d.progress, d.progress_done, d.progress_total, d.progress_text,
        CASE WHEN NOT g.spill THEN g.result END, d.unique_key
    FROM gone AS d
    JOIN given AS g ON g.id = d.id AND g.epoch = d.epoch
),
spilled AS (
    INSERT INTO holdfast.blob (job_id, key, data)
    SELECT d.id, '', g.result
    FROM gone AS d
    JOIN given AS g ON g.id = d.id AND g.epoch = d.epoch
    WHERE g.spill
    ON CONFLICT (job_id, key) DO UPDATE SET data = excluded.data
),
history AS (
    INSERT INTO holdfast.execution (
        job_id, epoch, worker_id, started_at, ended_at, outcome, reason
    )
    SELECT
        d.id, d.epoch, %(worker_id)s::bigint, d.started_at, holdfast.clock(), 'cancelled',
        'cancelled while it ran'
    FROM gone AS d
    WHERE d.cancel_requested_at IS NOT NULL
    ON CONFLICT (job_id, epoch) DO NOTHING
),
told AS MATERIALIZED (
    SELECT pg_notify(%(done_channel)s::text, '')
    WHERE EXISTS (SELECT 1 FROM gone AS d WHERE d.awaited)
)
SELECT d.id FROM gone AS d WHERE (SELECT count(*) FROM told) >= 0
