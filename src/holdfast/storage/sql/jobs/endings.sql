-- Reads how jobs ended: one row for each that is final or in `attention`, with its result and its
-- last error; and one for each id that exists nowhere, with state NULL. Live ones are left out.
-- ids. Indexes: primary keys, job_archive_id.
SELECT
    wanted.id, coalesce(f.state, j.state), f.codec,
    CASE WHEN f.spilled THEN b.data ELSE f.result END,
    coalesce(f.name, j.name), coalesce(f.wait_detail, j.wait_detail),
    e.error_type, e.error_message, f.failures
FROM unnest(%(ids)s::bigint[]) AS wanted (id)
LEFT JOIN holdfast.job AS j ON j.id = wanted.id
LEFT JOIN LATERAL (
    SELECT a.state, a.codec, a.spilled, a.result, a.name, a.wait_detail, a.failures
    FROM holdfast.job_archive AS a
    WHERE a.id = wanted.id
    LIMIT 1
) AS f ON true
LEFT JOIN holdfast.blob AS b ON b.job_id = wanted.id AND b.key = '' AND f.spilled
LEFT JOIN LATERAL (
    SELECT x.error_type, x.error_message
    FROM holdfast.execution AS x
    WHERE x.job_id = wanted.id AND x.error_type IS NOT NULL
    ORDER BY x.epoch DESC
    LIMIT 1
) AS e ON true
WHERE j.id IS NULL OR j.state = 'attention'
