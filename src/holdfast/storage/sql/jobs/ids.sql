-- Finds the ids of all jobs that match, the oldest first, for bulk actions. NULL filters match all:
-- queue, name, tag, shown (as in `list`); most: at most so many; after_id: keyset paging.
-- Reads the view over live and archived jobs; meant for people, not for hot paths.
SELECT v.id
FROM holdfast.jobs AS v
WHERE v.id > %(after_id)s::bigint
  AND (%(queue)s::text IS NULL OR v.queue = %(queue)s::text)
  AND (%(name)s::text IS NULL OR v.name = %(name)s::text)
  AND (%(tag)s::text IS NULL OR %(tag)s::text = ANY (v.tags))
  AND (
      %(shown)s::text IS NULL
      OR %(shown)s::text = CASE
          WHEN v.state <> 'available' OR v.run_at <= holdfast.clock() THEN v.state
          WHEN v.wait_reason = 'retry' THEN 'retryable'
          WHEN v.wait_reason IS NOT NULL THEN 'waiting'
          ELSE 'scheduled'
      END
  )
ORDER BY v.id
LIMIT %(most)s::integer
