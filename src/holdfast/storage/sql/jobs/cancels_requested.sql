-- Finds which of a worker's running jobs somebody has asked to cancel.
-- worker_id. Index: job_running.
SELECT j.id
FROM holdfast.job AS j
WHERE j.worker_id = %(worker_id)s::bigint
  AND j.state = 'executing'
  AND j.cancel_requested_at IS NOT NULL
