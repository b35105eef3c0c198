-- Ends attempts in any way but plain first-time success: final states go to the archive, others
-- stay live with their next time; each writes its history row. One statement for many jobs.
--
-- worker_id; one element a job: ids, epochs, states (the target), delays (seconds, from the
-- database's clock) or run_ats (an exact time, wins), *_charge (added to the counters), outcomes,
-- charged, reasons, wait_reasons, wait_details, error_*, results, codecs, spills, bump (epoch + 1).
-- Returns (id, state, run_at) of the jobs that were ours; a missing one had lost its lease.
-- A requested cancel wins over every other end, and so does the reason given with it: a running
-- job has a `wait_detail` only from there. `run_at` never lies beyond the job's deadline.
-- Locks: the job rows, in id order. Index: primary key; for CASE see `complete`.
WITH given AS MATERIALIZED (
    SELECT *
    FROM unnest(
        %(ids)s::bigint[], %(epochs)s::bigint[], %(states)s::text[], %(delays)s::float8[],
        %(run_ats)s::timestamptz[], %(failure_charges)s::integer[], %(crash_charges)s::integer[],
        %(resume_charges)s::integer[], %(outcomes)s::text[], %(charged)s::text[],
        %(reasons)s::text[], %(wait_reasons)s::text[], %(wait_details)s::text[],
        %(error_types)s::text[], %(error_messages)s::text[], %(error_stacks)s::text[],
        %(error_fingerprints)s::text[], %(results)s::bytea[], %(codecs)s::smallint[],
        %(spills)s::boolean[], %(bumps)s::integer[]
    ) AS g (
        id, epoch, state, delay, run_at, failure_charge, crash_charge, resume_charge, outcome,
        charged, reason, wait_reason, wait_detail, error_type, error_message, error_stack,
        error_fingerprint, result, codec, spill, bump
    )
),
own AS MATERIALIZED (
    SELECT
        j.id, j.started_at, j.awaited, g.epoch, g.delay, g.failure_charge, g.crash_charge,
        g.resume_charge, g.charged, g.reason, g.error_type, g.error_message, g.error_stack,
        g.error_fingerprint, g.result, g.codec, g.spill, g.bump, g.wait_detail, g.outcome AS told,
        CASE WHEN j.cancel_requested_at IS NULL THEN g.state ELSE 'cancelled' END AS state,
        CASE WHEN j.cancel_requested_at IS NULL THEN g.outcome ELSE 'cancelled' END AS outcome,
        CASE WHEN j.cancel_requested_at IS NULL THEN g.wait_reason ELSE 'cancelled' END
            AS wait_reason,
        -- The deadline only bounds a time that is given: least() would take it for a missing one.
        CASE WHEN g.run_at IS NOT NULL OR g.delay IS NOT NULL THEN least(
            coalesce(g.run_at, holdfast.clock() + g.delay * interval '1 second'), j.deadline
        ) END AS run_at
    FROM holdfast.job AS j
    JOIN given AS g ON g.id = j.id AND g.epoch = j.epoch
    WHERE j.id = ANY (%(ids)s::bigint[])
      AND CASE
          WHEN j.state = 'executing' AND j.worker_id = %(worker_id)s::bigint THEN true
      END
    ORDER BY j.id
    FOR UPDATE OF j
),
moved AS (
    UPDATE holdfast.job AS j
    SET state = o.state,
        worker_id = NULL,
        epoch = j.epoch + o.bump,
        run_at = coalesce(o.run_at, j.run_at),
        failures = j.failures + o.failure_charge,
        crashes = j.crashes + o.crash_charge,
        resumes = j.resumes + o.resume_charge,
        wait_reason = o.wait_reason,
        wait_detail = o.wait_detail
    FROM own AS o
    WHERE j.id = ANY (%(ids)s::bigint[])
      AND j.id = o.id
      AND o.state IN ('available', 'attention')
    RETURNING j.id, j.queue, j.state, j.run_at
),
gone AS (
    DELETE FROM holdfast.job AS j
    WHERE j.id = ANY (ARRAY(
        SELECT o.id FROM own AS o WHERE o.state IN ('completed', 'discarded', 'cancelled')
    ))
    RETURNING
        j.id, j.epoch, j.run_at, j.created_at, j.started_at, j.deadline, j.cancel_requested_at,
        j.failures, j.max_attempts, j.crashes, j.max_crashes, j.resumes, j.priority,
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
        holdfast.clock(), d.deadline, d.cancel_requested_at, d.failures + o.failure_charge,
        d.max_attempts, d.crashes + o.crash_charge, d.max_crashes, d.resumes + o.resume_charge,
        d.priority, o.codec, o.spill, o.state, d.queue, d.name, d.args, d.tags, d.meta,
        d.code_version, o.wait_reason, coalesce(d.wait_detail, o.wait_detail), d.progress,
        d.progress_done, d.progress_total, d.progress_text,
        CASE WHEN NOT o.spill THEN o.result END, d.unique_key
    FROM gone AS d
    JOIN own AS o ON o.id = d.id
    RETURNING job_archive.id, job_archive.state
),
spilled AS (
    INSERT INTO holdfast.blob (job_id, key, data)
    SELECT o.id, '', o.result
    FROM own AS o
    WHERE o.spill
    ON CONFLICT (job_id, key) DO UPDATE SET data = excluded.data
),
history AS (
    INSERT INTO holdfast.execution (
        job_id, epoch, worker_id, started_at, ended_at, outcome, charged, reason, error_type,
        error_message, error_stack, error_fingerprint, next_at
    )
    SELECT
        o.id, o.epoch, %(worker_id)s::bigint, o.started_at, holdfast.clock(), o.outcome,
        o.charged, o.reason, o.error_type, o.error_message, o.error_stack, o.error_fingerprint,
        CASE WHEN o.state = 'available' THEN o.run_at END
    FROM own AS o
    ON CONFLICT (job_id, epoch) DO NOTHING
),
told AS MATERIALIZED (
    SELECT pg_notify(%(wake_channel)s::text, due.queue)
    FROM (
        SELECT DISTINCT m.queue
        FROM moved AS m
        WHERE m.state = 'available' AND m.run_at <= holdfast.clock() + interval '10 seconds'
    ) AS due
    UNION ALL
    SELECT pg_notify(%(done_channel)s::text, '')
    WHERE EXISTS (SELECT 1 FROM own AS o WHERE o.awaited AND o.state <> 'available')
)
SELECT m.id, m.state, m.run_at FROM moved AS m WHERE (SELECT count(*) FROM told) >= 0
UNION ALL
SELECT k.id, k.state, NULL FROM kept AS k
