-- 0003: the moves between live and finished jobs keep a job's unique key.

-- Cancels jobs. One that does not run is `cancelled` at once; a running one has the request in
-- its row at once, its code is interrupted, and it is `cancelled` when that has stopped.
-- Returns each job that was found, with its state after the call.
CREATE OR REPLACE FUNCTION holdfast.cancel(ids bigint[], reason text DEFAULT NULL)
RETURNS TABLE (id bigint, state text)
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
BEGIN
    -- Locked by a statement of its own: the next one then sees what a rival has just made of a job.
    PERFORM 1 FROM holdfast.job AS j WHERE j.id = ANY (ids) ORDER BY j.id FOR UPDATE;
    RETURN QUERY
    WITH mine AS MATERIALIZED (
        SELECT j.id, j.state FROM holdfast.job AS j WHERE j.id = ANY (ids)
    ),
    asked AS (
        UPDATE holdfast.job AS j
        SET cancel_requested_at = coalesce(j.cancel_requested_at, holdfast.clock()),
            wait_detail = coalesce(j.wait_detail, reason)
        WHERE j.id = ANY (ARRAY(SELECT m.id FROM mine AS m WHERE m.state = 'executing'))
        RETURNING j.id
    ),
    gone AS (
        DELETE FROM holdfast.job AS j
        WHERE j.id = ANY (ARRAY(SELECT m.id FROM mine AS m WHERE m.state <> 'executing'))
        RETURNING j.*
    ),
    kept AS (
        INSERT INTO holdfast.job_archive (
            id, epoch, worker_id, run_at, created_at, started_at, finished_at, deadline,
            cancel_requested_at, failures, max_attempts, crashes, max_crashes, resumes, priority,
            state, queue, name, args, tags, meta, code_version, wait_reason, wait_detail,
            progress, progress_done, progress_total, progress_text, unique_key
        )
        SELECT
            g.id, g.epoch, g.worker_id, g.run_at, g.created_at, g.started_at, holdfast.clock(),
            g.deadline, holdfast.clock(), g.failures, g.max_attempts, g.crashes, g.max_crashes,
            g.resumes, g.priority, 'cancelled', g.queue, g.name, g.args, g.tags, g.meta,
            g.code_version, 'cancelled', reason, g.progress, g.progress_done, g.progress_total,
            g.progress_text, g.unique_key
        FROM gone AS g
        RETURNING job_archive.id
    ),
    told AS (
        SELECT pg_notify(holdfast.channel('cancel'), '') WHERE EXISTS (SELECT 1 FROM asked)
        UNION ALL
        SELECT pg_notify(holdfast.channel('done'), '')
        WHERE EXISTS (SELECT 1 FROM gone AS g WHERE g.awaited)
    )
    SELECT a.id, 'executing' FROM asked AS a WHERE (SELECT count(*) FROM told) >= 0
    UNION ALL
    SELECT k.id, 'cancelled' FROM kept AS k
    UNION ALL
    SELECT f.id, f.state FROM holdfast.job_archive AS f WHERE f.id = ANY (ids);
END
$$;

-- Runs jobs again at once: final ones come back from the archive, those in `attention` or
-- waiting for a later time become due. Finished steps are kept, remembered errors are forgotten,
-- one more attempt is allowed if all were used, a deadline that has passed is dropped. A running
-- job is left alone, and so is a finished one whose unique key another job has now: it keeps its
-- state. Returns each job that was found, with its state after the call.
CREATE OR REPLACE FUNCTION holdfast.retry(ids bigint[]) RETURNS TABLE (id bigint, state text)
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
    back bigint[];
BEGIN
    -- Locked by statements of their own, the archive first: the next ones then see what a rival
    -- has just made of a job.
    PERFORM 1 FROM holdfast.job_archive AS f WHERE f.id = ANY (ids) ORDER BY f.id FOR UPDATE;
    PERFORM 1 FROM holdfast.job AS j WHERE j.id = ANY (ids) ORDER BY j.id FOR UPDATE;
    WITH again AS (
        INSERT INTO holdfast.job (
            id, epoch, run_at, created_at, started_at, deadline, failures, max_attempts, crashes,
            max_crashes, resumes, priority, state, queue, name, args, tags, meta, code_version,
            progress, progress_done, progress_total, progress_text, unique_key
        )
        SELECT
            b.id, b.epoch, holdfast.clock(), b.created_at, b.started_at,
            CASE WHEN b.deadline > holdfast.clock() THEN b.deadline END, b.failures,
            greatest(b.max_attempts, b.failures + 1), 0, b.max_crashes, b.resumes, b.priority,
            'available', b.queue, b.name, b.args, b.tags, b.meta, b.code_version,
            b.progress, b.progress_done, b.progress_total, b.progress_text, b.unique_key
        FROM holdfast.job_archive AS b
        WHERE b.id = ANY (ids)
        ORDER BY b.unique_key, b.id
        ON CONFLICT (unique_key) WHERE unique_key IS NOT NULL DO NOTHING
        RETURNING job.id
    )
    SELECT array_agg(a.id) INTO back FROM again AS a;
    DELETE FROM holdfast.job_archive AS f WHERE f.id = ANY (back);
    UPDATE holdfast.job AS j
    SET state = 'available', run_at = holdfast.clock(), crashes = 0,
        deadline = CASE WHEN j.deadline > holdfast.clock() THEN j.deadline END,
        cancel_requested_at = NULL,
        max_attempts = greatest(j.max_attempts, j.failures + 1),
        wait_reason = NULL, wait_detail = NULL
    WHERE j.id = ANY (ids) AND j.state IN ('available', 'attention');
    DELETE FROM holdfast.step AS s
    WHERE s.state <> 'done'
      AND s.job_id IN (
          SELECT j.id FROM holdfast.job AS j WHERE j.id = ANY (ids) AND j.state = 'available'
      );
    DELETE FROM holdfast.blob AS b WHERE b.job_id = ANY (back) AND b.key = '';
    PERFORM holdfast.wake(ids);
    RETURN QUERY
    SELECT j.id, j.state FROM holdfast.job AS j WHERE j.id = ANY (ids)
    UNION ALL
    SELECT f.id, f.state FROM holdfast.job_archive AS f WHERE f.id = ANY (ids);
END
$$;
