-- Counts the jobs that ended lately, by how. seconds: how lately. Returns (state, count).
-- Index: job_archive_finished.
SELECT f.state, count(*)
FROM holdfast.job_archive AS f
WHERE f.finished_at > holdfast.clock() - %(seconds)s::float8 * interval '1 second'
GROUP BY f.state
