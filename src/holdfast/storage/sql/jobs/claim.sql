-- Claims due jobs for all queues of one worker, and says when the next one is due.
--
-- worker_id       the claiming worker; once it was declared dead nothing is claimed
-- queues, demands one element a queue: how many jobs it can take
-- lane_*          one element per queue and priority, in order of priority: where to begin
-- Returns the claimed jobs, then one row without id: `due_in_s` until the next job, and in
-- `epoch` 1 when the worker still counts, else 0.
-- Locks: KEY SHARE on the worker's row (a rescue cannot miss jobs claimed beside it), the claimed
-- rows; rows locked by others are skipped, nothing waits but for a rescue of this very worker.
-- Index: job_claim, once per lane; the floor is part of the index condition, so that dead
-- entries below it are not walked. `= ANY (ARRAY(...))` keeps the primary key scan when the plan
-- was cached on a small table.
WITH mine AS MATERIALIZED (
    SELECT w.id
    FROM holdfast.worker AS w
    WHERE w.id = %(worker_id)s::bigint AND NOT w.declared_dead
    FOR KEY SHARE
),
lane AS MATERIALIZED (
    SELECT l.queue, l.priority, l.floor_at, l.floor_id
    FROM unnest(
        %(lane_queues)s::text[], %(lane_priorities)s::smallint[],
        %(lane_floors_at)s::timestamptz[], %(lane_floor_ids)s::bigint[]
    ) AS l (queue, priority, floor_at, floor_id)
),
picked AS MATERIALIZED (
    SELECT due.id
    FROM mine
    CROSS JOIN unnest(%(queues)s::text[], %(demands)s::integer[]) AS q (queue, demand)
    CROSS JOIN LATERAL (
        SELECT ready.id
        FROM lane
        CROSS JOIN LATERAL (
            SELECT j.id
            FROM holdfast.job AS j
            WHERE j.state = 'available'
              AND j.queue = q.queue
              AND j.priority = lane.priority
              AND j.run_at <= holdfast.clock()
              AND (j.run_at, j.id) >= (lane.floor_at, lane.floor_id)
            ORDER BY j.run_at, j.id
            LIMIT q.demand
            FOR UPDATE SKIP LOCKED
        ) AS ready
        WHERE lane.queue = q.queue
        LIMIT q.demand
    ) AS due
),
claimed AS (
    UPDATE holdfast.job AS j
    SET state = 'executing',
        epoch = j.epoch + 1,
        worker_id = %(worker_id)s::bigint,
        started_at = holdfast.clock(),
        wait_reason = NULL,
        -- A job that was handed back while it was asked to stop still says why.
        wait_detail = CASE WHEN j.cancel_requested_at IS NOT NULL THEN j.wait_detail END
    WHERE j.id = ANY (ARRAY(SELECT p.id FROM picked AS p))
    RETURNING
        j.id, j.epoch, j.queue, j.name, j.args::text AS args, j.priority, j.run_at, j.failures,
        j.max_attempts, j.crashes, j.max_crashes, j.resumes,
        extract(epoch FROM j.deadline - holdfast.clock())::float8 AS deadline_in_s,
        j.cancel_requested_at IS NOT NULL AS cancel_requested, j.code_version, j.tags,
        j.meta::text AS meta, j.progress,
        CASE WHEN j.epoch > 1 THEN (
            SELECT json_agg(json_build_object(
                'key', s.key, 'seq', s.seq, 'kind', s.kind, 'state', s.state,
                'attempts', s.attempts, 'codec', s.codec, 'code_version', s.code_version,
                'fingerprint', encode(s.fingerprint, 'hex'),
                'wake_in_s', CASE WHEN isfinite(s.wake_at) THEN
                    extract(epoch FROM s.wake_at - holdfast.clock())::float8
                END,
                'wake_at', s.wake_at,
                'error_type', s.error_type, 'error_message', s.error_message,
                'result', CASE WHEN s.total <= 4194304 THEN encode(s.result, 'base64') END
            ))::text
            FROM (
                SELECT
                    t.*,
                    sum(coalesce(octet_length(t.result), 0)) OVER (ORDER BY t.seq) AS total
                FROM holdfast.step AS t
                WHERE t.job_id = j.id
            ) AS s
        ) END AS journal
)
SELECT
    c.id, c.epoch, c.queue, c.name, c.args, c.priority, c.run_at, c.failures, c.max_attempts,
    c.crashes, c.max_crashes, c.resumes, c.deadline_in_s, c.cancel_requested, c.code_version,
    c.tags, c.meta, c.progress, c.journal, NULL::float8 AS due_in_s
FROM claimed AS c
UNION ALL
SELECT
    NULL, (SELECT count(*) FROM mine), NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    CASE WHEN (SELECT count(*) FROM picked) < %(total_demand)s::integer THEN (
        SELECT extract(epoch FROM min(n.run_at) - holdfast.clock())::float8
        FROM lane
        CROSS JOIN LATERAL (
            SELECT j.run_at
            FROM holdfast.job AS j
            WHERE j.state = 'available'
              AND j.queue = lane.queue
              AND j.priority = lane.priority
              AND j.run_at > holdfast.clock()
            ORDER BY j.run_at, j.id
            LIMIT 1
        ) AS n
    ) END
