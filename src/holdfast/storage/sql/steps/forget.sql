-- Forgets remembered errors that turned out to end the attempt: only an error the job acted upon
-- is kept. job_ids, keys: one element a row. Index: primary key.
DELETE FROM holdfast.step AS s
USING unnest(%(job_ids)s::bigint[], %(keys)s::text[]) AS g (job_id, key)
WHERE s.job_id = ANY (%(job_ids)s::bigint[])
  AND s.job_id = g.job_id
  AND s.key = g.key
  AND s.state = 'failed'
