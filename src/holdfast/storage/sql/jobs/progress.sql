-- Raises the progress of running jobs; it never goes back, so a replay leaves the bar alone.
--
-- worker_id; one element a job: ids, epochs, fractions, dones, totals, texts.
-- Returns the ids that were ours. Locks: the job rows. Index: primary key; for CASE see
-- `complete`. The update is HOT.
WITH given AS MATERIALIZED (
    SELECT g.id, g.epoch, g.fraction, g.done, g.total, g.text
    FROM unnest(
        %(ids)s::bigint[], %(epochs)s::bigint[], %(fractions)s::float8[], %(dones)s::float8[],
        %(totals)s::float8[], %(texts)s::text[]
    ) AS g (id, epoch, fraction, done, total, text)
)
UPDATE holdfast.job AS j
SET progress = greatest(j.progress, g.fraction),
    progress_done = CASE
        WHEN g.fraction >= coalesce(j.progress, 0) THEN g.done
        ELSE j.progress_done
    END,
    progress_total = CASE
        WHEN g.fraction >= coalesce(j.progress, 0) THEN g.total
        ELSE j.progress_total
    END,
    progress_text = CASE
        WHEN g.fraction >= coalesce(j.progress, 0) THEN coalesce(g.text, j.progress_text)
        ELSE j.progress_text
    END
FROM given AS g
WHERE j.id = ANY (%(ids)s::bigint[])
  AND j.id = g.id
  AND j.epoch = g.epoch
  AND CASE WHEN j.state = 'executing' AND j.worker_id = %(worker_id)s::bigint THEN true END
RETURNING j.id
