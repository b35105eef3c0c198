-- Marks jobs as awaited, so that their end notifies; a job that is not live is left alone.
-- ids. Locks: the job rows, only where the mark is missing. Index: primary key. HOT.
UPDATE holdfast.job AS j
SET awaited = true
WHERE j.id = ANY (%(ids)s::bigint[]) AND NOT j.awaited
