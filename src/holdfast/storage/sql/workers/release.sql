-- Takes the jobs of dead workers away from them, in one guarded statement; any worker may do it.
--
-- worker_ids; certain: their supervisor saw them die, else the row must prove it (grace_s as in
-- the heartbeat), so that one that came back meanwhile is left alone.
-- charge: 'crash' charges the culprits, NULL nobody (a hand-back). culprits: the jobs to charge;
-- NULL when nobody knows: then all are. outcome, reason: what the history says.
-- A charged job beyond max_crashes goes to `attention`; one with a requested cancel ends.
-- Returns (job id, state) of every job moved. Call it until the worker's row is gone: the first
-- call declares it dead, a later one removes it when it owns nothing more. For a claim may commit
-- between this statement's snapshot and its lock, and only the next call sees what it took; jobs
-- locked by a statement still in flight are left to the next call, too.
-- Locks: worker rows (against a claim in flight), job rows; locked ones are skipped, never waited
-- for. Index: job_running.
WITH dead AS MATERIALIZED (
    SELECT w.id
    FROM holdfast.worker AS w
    WHERE w.id = ANY (%(worker_ids)s::bigint[])
      AND (
          %(certain)s::boolean
          OR w.expires_at <= holdfast.clock()
          OR w.lock_missing_since
              <= holdfast.clock() - %(grace_s)s::float8 * interval '1 second'
      )
    FOR UPDATE SKIP LOCKED
),
lost AS MATERIALIZED (
    SELECT
        j.id, j.worker_id, j.epoch, j.started_at, j.cancel_requested_at, j.awaited,
        CASE
            WHEN %(charge)s::text IS NULL THEN 0
            WHEN %(culprits)s::bigint[] IS NULL OR j.id = ANY (%(culprits)s::bigint[]) THEN 1
            ELSE 0
        END AS crash,
        j.crashes,
        j.max_crashes
    FROM holdfast.job AS j
    WHERE j.worker_id = ANY (ARRAY(SELECT d.id FROM dead AS d)) AND j.state = 'executing'
    ORDER BY j.id
    FOR UPDATE SKIP LOCKED
),
moved AS (
    UPDATE holdfast.job AS j
    SET state = CASE
            WHEN l.crash = 1 AND l.crashes + 1 >= l.max_crashes THEN 'attention'
            ELSE 'available'
        END,
        worker_id = NULL,
        epoch = j.epoch + 1,
        run_at = holdfast.clock(),
        crashes = j.crashes + l.crash,
        resumes = j.resumes + 1 - l.crash,
        wait_reason = CASE
            WHEN l.crash = 1 AND l.crashes + 1 >= l.max_crashes THEN 'poison'
        END,
        wait_detail = CASE
            WHEN l.crash = 1 AND l.crashes + 1 >= l.max_crashes
            THEN 'its process died ' || (l.crashes + 1) || ' times, last: ' || %(reason)s::text
        END
    FROM lost AS l
    WHERE j.id = ANY (ARRAY(SELECT x.id FROM lost AS x)) AND j.id = l.id
      AND l.cancel_requested_at IS NULL
    RETURNING j.id, j.queue, j.state
),
gone AS (
    DELETE FROM holdfast.job AS j
    WHERE j.id = ANY (ARRAY(SELECT l.id FROM lost AS l WHERE l.cancel_requested_at IS NOT NULL))
    RETURNING
        j.id, j.epoch, j.worker_id, j.run_at, j.created_at, j.started_at, j.deadline,
        j.cancel_requested_at, j.failures, j.max_attempts, j.crashes, j.max_crashes, j.resumes,
        j.priority, j.queue, j.name, j.args, j.tags, j.meta, j.code_version, j.wait_detail,
        j.progress, j.progress_done, j.progress_total, j.progress_text, j.unique_key
),
kept AS (
    INSERT INTO holdfast.job_archive (
        id, epoch, worker_id, run_at, created_at, started_at, finished_at, deadline,
        cancel_requested_at, failures, max_attempts, crashes, max_crashes, resumes, priority,
        state, queue, name, args, tags, meta, code_version, wait_reason, wait_detail, progress,
        progress_done, progress_total, progress_text, unique_key
    )
    SELECT
        g.id, g.epoch, g.worker_id, g.run_at, g.created_at, g.started_at, holdfast.clock(),
        g.deadline, g.cancel_requested_at, g.failures, g.max_attempts, g.crashes + l.crash,
        g.max_crashes, g.resumes, g.priority, 'cancelled', g.queue, g.name, g.args, g.tags,
        g.meta, g.code_version, 'cancelled', g.wait_detail, g.progress, g.progress_done,
        g.progress_total, g.progress_text, g.unique_key
    FROM gone AS g
    JOIN lost AS l ON l.id = g.id
    RETURNING job_archive.id, job_archive.state
),
history AS (
    INSERT INTO holdfast.execution (
        job_id, epoch, worker_id, started_at, ended_at, outcome, charged, reason
    )
    SELECT
        l.id, l.epoch, l.worker_id, l.started_at, holdfast.clock(), %(outcome)s::text,
        CASE WHEN l.crash = 1 THEN 'crash' END, %(reason)s::text
    FROM lost AS l
    ON CONFLICT (job_id, epoch) DO NOTHING
),
declared AS (
    UPDATE holdfast.worker AS w
    SET declared_dead = true
    WHERE w.id IN (SELECT d.id FROM dead AS d) AND NOT w.declared_dead
),
buried AS (
    DELETE FROM holdfast.worker AS w
    WHERE w.id IN (SELECT d.id FROM dead AS d)
      -- Asked of the snapshot: a rival's declaration after it proves nothing about our view.
      AND EXISTS (SELECT 1 FROM holdfast.worker AS s WHERE s.id = w.id AND s.declared_dead)
      AND NOT EXISTS (
          SELECT 1
          FROM holdfast.job AS j
          WHERE j.worker_id = w.id
            AND j.state = 'executing'
            AND j.id <> ALL (ARRAY(SELECT l.id FROM lost AS l))
      )
),
told AS MATERIALIZED (
    SELECT pg_notify(%(wake_channel)s::text, q.queue)
    FROM (SELECT DISTINCT m.queue FROM moved AS m WHERE m.state = 'available') AS q
    UNION ALL
    SELECT pg_notify(%(done_channel)s::text, '')
    WHERE EXISTS (SELECT 1 FROM gone)
       OR EXISTS (SELECT 1 FROM moved AS m WHERE m.state = 'attention')
)
SELECT m.id, m.state FROM moved AS m WHERE (SELECT count(*) FROM told) >= 0
UNION ALL
SELECT k.id, k.state FROM kept AS k
