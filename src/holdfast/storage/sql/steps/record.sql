-- Writes journal rows of many jobs in one statement, each only if its job is still ours.
--
-- worker_id; one element a row: job_ids, epochs, keys, seqs, kinds, states, attempts, results,
-- codecs, spills, elapsed (seconds the work took), wakes (seconds until a sleep ends),
-- code_versions, fingerprints, error_*.
-- Returns (job_id, epoch, key, wake_at) of the rows written; a missing one means the lease is lost.
-- Writing a row twice is the same as once: the owner may replace its own rows. A sleep keeps the
-- end it was given first; each try of a step has a time of its own.
-- Locks: the job rows NO KEY UPDATE, in id order, against a rescue. Index: both primary keys;
-- for CASE see `jobs/complete`.
WITH given AS MATERIALIZED (
    SELECT *
    FROM unnest(
        %(job_ids)s::bigint[], %(epochs)s::bigint[], %(keys)s::text[], %(seqs)s::integer[],
        %(kinds)s::text[], %(states)s::text[], %(attempts)s::integer[], %(results)s::bytea[],
        %(codecs)s::smallint[], %(spills)s::boolean[], %(elapsed)s::float8[],
        %(wakes)s::float8[], %(code_versions)s::text[], %(fingerprints)s::bytea[],
        %(error_types)s::text[], %(error_messages)s::text[], %(error_stacks)s::text[]
    ) AS g (
        job_id, epoch, key, seq, kind, state, attempts, result, codec, spill, elapsed, wake,
        code_version, fingerprint, error_type, error_message, error_stack
    )
),
own AS MATERIALIZED (
    SELECT j.id, j.epoch
    FROM holdfast.job AS j
    WHERE j.id = ANY (%(job_ids)s::bigint[])
      AND CASE
          WHEN j.state = 'executing' AND j.worker_id = %(worker_id)s::bigint THEN true
      END
    ORDER BY j.id
    FOR NO KEY UPDATE
),
spilled AS (
    INSERT INTO holdfast.blob (job_id, key, data)
    SELECT g.job_id, g.key, g.result
    FROM given AS g
    JOIN own AS o ON o.id = g.job_id AND o.epoch = g.epoch
    WHERE g.spill
    ON CONFLICT (job_id, key) DO UPDATE SET data = excluded.data
)
INSERT INTO holdfast.step AS s (
    job_id, key, seq, kind, state, epoch, attempts, codec, spilled, started_at, finished_at,
    wake_at, code_version, fingerprint, result, error_type, error_message, error_stack
)
SELECT
    g.job_id, g.key, g.seq, g.kind, g.state, g.epoch, g.attempts, g.codec, g.spill,
    holdfast.clock() - g.elapsed * interval '1 second', holdfast.clock(),
    holdfast.clock() + g.wake * interval '1 second', g.code_version, g.fingerprint,
    CASE WHEN NOT g.spill THEN g.result END, g.error_type, g.error_message, g.error_stack
FROM given AS g
JOIN own AS o ON o.id = g.job_id AND o.epoch = g.epoch
ON CONFLICT (job_id, key) DO UPDATE
SET state = excluded.state,
    epoch = excluded.epoch,
    attempts = excluded.attempts,
    codec = excluded.codec,
    spilled = excluded.spilled,
    started_at = excluded.started_at,
    finished_at = excluded.finished_at,
    wake_at = CASE
        WHEN s.kind = 'sleep' THEN coalesce(s.wake_at, excluded.wake_at)
        ELSE excluded.wake_at
    END,
    code_version = excluded.code_version,
    fingerprint = excluded.fingerprint,
    result = excluded.result,
    error_type = excluded.error_type,
    error_message = excluded.error_message,
    error_stack = excluded.error_stack
RETURNING s.job_id, s.epoch, s.key, s.wake_at
