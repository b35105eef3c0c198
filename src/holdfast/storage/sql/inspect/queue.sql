-- Reads what decides when a job of a queue starts: its live workers and what is ahead of it.
-- queue, name; priority, run_at, id of the job. Indexes: job_claim, job_running.
SELECT
    (
        SELECT count(*)
        FROM holdfast.worker AS w
        WHERE w.queues ? %(queue)s::text AND w.expires_at > holdfast.clock()
    ),
    (
        SELECT count(*)
        FROM holdfast.worker AS w
        WHERE w.queues ? %(queue)s::text
          AND %(name)s::text = ANY (w.job_names)
          AND w.expires_at > holdfast.clock()
    ),
    (
        SELECT coalesce(sum((w.queues ->> %(queue)s::text)::integer), 0)
        FROM holdfast.worker AS w
        WHERE w.queues ? %(queue)s::text
          AND NOT %(queue)s::text = ANY (w.paused)
          AND w.expires_at > holdfast.clock()
    ),
    (
        SELECT count(*)
        FROM holdfast.job AS j
        WHERE j.state = 'executing' AND j.queue = %(queue)s::text
    ),
    (
        SELECT count(*)
        FROM (
            SELECT 1
            FROM holdfast.job AS j
            WHERE j.state = 'available'
              AND j.queue = %(queue)s::text
              AND j.run_at <= holdfast.clock()
              AND (j.priority, j.run_at, j.id)
                  < (%(priority)s::smallint, %(run_at)s::timestamptz, %(id)s::bigint)
            LIMIT 10000
        ) AS ahead
    ),
    (
        SELECT count(*)
        FROM holdfast.worker AS w
        WHERE %(queue)s::text = ANY (w.paused) AND w.expires_at > holdfast.clock()
    ),
    (
        SELECT q.paused_at
        FROM holdfast.queue AS q
        WHERE q.name = %(queue)s::text AND q.worker = ''
    ),
    (
        SELECT q.slots
        FROM holdfast.queue AS q
        WHERE q.name = %(queue)s::text AND q.worker = ''
    )
