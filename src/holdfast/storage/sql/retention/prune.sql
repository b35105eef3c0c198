-- Removes finished jobs past their rule, and keys whose period is over, through the schema's
-- function. most: of each in this call. Returns (jobs, keys) that went. Index:
-- job_archive_finished. Locks: those rows, skipping what somebody else has locked.
SELECT p.jobs, p.keys FROM holdfast.prune(%(most)s::integer) AS p
