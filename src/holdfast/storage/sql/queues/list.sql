-- Lists the queues that anybody knows: somebody set something, a worker serves them, or they have
-- unfinished jobs. For people: counts all live jobs.
-- Returns one row a queue: live workers that serve it, slots of those that are not paused for it.
WITH counted AS (
    SELECT
        j.queue AS name,
        count(*) FILTER (WHERE j.state = 'available' AND j.run_at <= holdfast.clock()) AS available,
        count(*) FILTER (WHERE j.state = 'available' AND j.run_at > holdfast.clock()) AS later,
        count(*) FILTER (WHERE j.state = 'executing') AS executing,
        count(*) FILTER (WHERE j.state = 'attention') AS attention,
        min(j.run_at) FILTER (WHERE j.state = 'available') AS oldest_at
    FROM holdfast.job AS j
    GROUP BY j.queue
),
served AS (
    SELECT
        e.key AS name,
        count(*) AS workers,
        count(*) FILTER (WHERE e.key = ANY (w.paused)) AS paused,
        sum(CASE WHEN e.key = ANY (w.paused) THEN 0 ELSE e.value::integer END) AS slots
    FROM holdfast.worker AS w
    CROSS JOIN LATERAL jsonb_each_text(w.queues) AS e
    WHERE w.expires_at > holdfast.clock()
    GROUP BY e.key
),
known AS (
    SELECT c.name FROM counted AS c
    UNION
    SELECT s.name FROM served AS s
    UNION
    SELECT q.name FROM holdfast.queue AS q
)
SELECT
    k.name, coalesce(c.available, 0), coalesce(c.later, 0), coalesce(c.executing, 0),
    coalesce(c.attention, 0),
    CASE
        WHEN c.oldest_at <= holdfast.clock()
        THEN extract(epoch FROM holdfast.clock() - c.oldest_at)::float8
    END,
    coalesce(s.workers, 0), coalesce(s.slots, 0), coalesce(s.paused, 0), q.paused_at, q.slots
FROM known AS k
LEFT JOIN counted AS c ON c.name = k.name
LEFT JOIN served AS s ON s.name = k.name
LEFT JOIN holdfast.queue AS q ON q.name = k.name AND q.worker = ''
ORDER BY k.name
