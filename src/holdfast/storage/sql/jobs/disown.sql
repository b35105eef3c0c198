-- Hands back jobs that a worker's row owns but its process does not know: a claim whose reply was
-- lost with the connection. Free of charge; `epoch` grows, so nothing late can be written.
-- worker_id; known_ids, known_epochs: what the process runs or still has to report: a job that it
-- knows by an older epoch was claimed again by the lost claim.
-- Locks: the job rows. Index: job_running.
WITH moved AS (
    UPDATE holdfast.job AS j
    SET state = 'available',
        worker_id = NULL,
        epoch = j.epoch + 1,
        run_at = holdfast.clock(),
        resumes = j.resumes + 1
    WHERE j.worker_id = %(worker_id)s::bigint
      AND j.state = 'executing'
      AND NOT EXISTS (
          SELECT 1
          FROM unnest(%(known_ids)s::bigint[], %(known_epochs)s::bigint[]) AS k (id, epoch)
          WHERE k.id = j.id AND k.epoch = j.epoch
      )
    RETURNING j.id, j.queue
),
told AS MATERIALIZED (
    SELECT pg_notify(%(wake_channel)s::text, q.queue)
    FROM (SELECT DISTINCT m.queue FROM moved AS m) AS q
)
SELECT m.id FROM moved AS m WHERE (SELECT count(*) FROM told) >= 0
