-- Reads the running jobs, for people. most: at most so many; newest: those that started last
-- instead of those that have run longest. Index: job_running.
SELECT
    j.id, j.name, j.queue, j.epoch, j.worker_id, coalesce(w.name, ''),
    extract(epoch FROM holdfast.clock() - j.started_at)::float8, j.progress, j.progress_done,
    j.progress_total, j.progress_text, j.cancel_requested_at IS NOT NULL
FROM holdfast.job AS j
LEFT JOIN holdfast.worker AS w ON w.id = j.worker_id
WHERE j.state = 'executing'
ORDER BY
    CASE WHEN %(newest)s::boolean THEN j.started_at END DESC,
    CASE WHEN NOT %(newest)s::boolean THEN j.started_at END,
    j.id
LIMIT %(most)s::integer
