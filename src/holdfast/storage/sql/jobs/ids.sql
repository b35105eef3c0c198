-- Finds all jobs that match, the oldest first, for bulk actions. NULL filters match all:
-- queue, name, tag, shown (as in `list`); most: at most so many; after_id: keyset paging.
-- Returns (id, state as shown). Reads the view over live and archived jobs; for people.
SELECT s.id, s.shown
FROM (
    SELECT
        v.id, v.queue, v.name, v.tags,
        CASE
            WHEN v.state <> 'available' OR v.run_at <= holdfast.clock() THEN v.state
            WHEN v.wait_reason = 'retry' THEN 'retryable'
            WHEN v.wait_reason IS NOT NULL THEN 'waiting'
            ELSE 'scheduled'
        END AS shown
    FROM holdfast.jobs AS v
) AS s
WHERE s.id > %(after_id)s::bigint
  AND (%(queue)s::text IS NULL OR s.queue = %(queue)s::text)
  AND (%(name)s::text IS NULL OR s.name = %(name)s::text)
  AND (%(tag)s::text IS NULL OR %(tag)s::text = ANY (s.tags))
  AND (%(shown)s::text IS NULL OR s.shown = %(shown)s::text)
ORDER BY s.id
LIMIT %(most)s::integer
