-- Finds the running jobs that a worker's row owns: all of them, or those to be cancelled.
-- worker_id; everything: also the jobs nobody asked to cancel.
-- Returns (id, epoch, whether a cancel is requested). Index: job_running.
SELECT j.id, j.epoch, j.cancel_requested_at IS NOT NULL
FROM holdfast.job AS j
WHERE j.worker_id = %(worker_id)s::bigint
  AND j.state = 'executing'
  AND (%(everything)s::boolean OR j.cancel_requested_at IS NOT NULL)
