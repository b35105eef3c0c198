-- Counts the jobs that nobody can run: due for long, or handed back as unknown, while no live
-- worker serves their queue and knows their name.
--
-- late_s: how long a job must be due. Looks at 20,000 jobs of each queue and priority at most.
-- Returns queue, name, whether a live worker serves the queue, how many, seconds since the oldest
-- was due, or enqueued when it was handed back; the largest groups first, twenty at most.
-- Index: job_claim, from queue to queue, and in each priority up to now: what is scheduled for
-- later is not read. An unknown job was handed back for some seconds, so that is where it ends.
WITH RECURSIVE known AS (
    (
        SELECT j.queue
        FROM holdfast.job AS j
        WHERE j.state = 'available'
        ORDER BY j.queue
        LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT j.queue
        FROM holdfast.job AS j
        WHERE j.state = 'available' AND j.queue > l.queue
        ORDER BY j.queue
        LIMIT 1
    )
    FROM known AS l
    WHERE l.queue IS NOT NULL
),
live AS MATERIALIZED (
    SELECT w.queues, w.job_names
    FROM holdfast.worker AS w
    WHERE w.expires_at > holdfast.clock() AND NOT w.declared_dead
),
late AS (
    SELECT l.queue, d.name, count(*) AS jobs, min(d.since) AS oldest
    FROM known AS l
    CROSS JOIN generate_series(0, 9) AS p (priority)
    CROSS JOIN LATERAL (
        SELECT
            j.name,
            CASE WHEN j.run_at <= holdfast.clock() THEN j.run_at ELSE j.created_at END AS since
        FROM holdfast.job AS j
        WHERE j.state = 'available'
          AND j.queue = l.queue
          AND j.priority = p.priority::smallint
          AND j.run_at <= holdfast.clock() + interval '1 minute'
          AND (
              j.run_at <= holdfast.clock() - %(late_s)s::float8 * interval '1 second'
              OR j.wait_reason = 'unknown job'
          )
        ORDER BY j.run_at, j.id
        LIMIT 20000
    ) AS d
    GROUP BY l.queue, d.name
)
SELECT
    l.queue, l.name,
    EXISTS (SELECT 1 FROM live AS w WHERE w.queues ? l.queue),
    l.jobs,
    extract(epoch FROM holdfast.clock() - l.oldest)::float8
FROM late AS l
WHERE NOT EXISTS (
    SELECT 1 FROM live AS w WHERE w.queues ? l.queue AND l.name = ANY (w.job_names)
)
ORDER BY l.jobs DESC, l.queue, l.name
LIMIT 20
