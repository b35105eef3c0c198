-- Forgets remembered errors that turned out to end the attempt: only an error the job acted upon
-- is kept. job_ids, epochs, keys: one element a row; an epoch belongs to one worker, so it is
-- fence enough. Index: both primary keys; for CASE see `jobs/complete`.
DELETE FROM holdfast.step AS s
USING
    unnest(%(job_ids)s::bigint[], %(epochs)s::bigint[], %(keys)s::text[]) AS g (job_id, epoch, key),
    holdfast.job AS j
WHERE s.job_id = ANY (%(job_ids)s::bigint[])
  AND s.job_id = g.job_id
  AND s.key = g.key
  AND j.id = g.job_id
  AND j.id = ANY (%(job_ids)s::bigint[])
  AND j.epoch = g.epoch
  AND CASE WHEN j.state = 'executing' THEN true END
  AND s.state = 'failed'
