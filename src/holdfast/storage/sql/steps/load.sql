-- Reads one recorded result that was too large to come along with the claim.
-- job_id, key. Index: primary keys.
SELECT CASE WHEN s.spilled THEN b.data ELSE s.result END
FROM holdfast.step AS s
LEFT JOIN holdfast.blob AS b ON b.job_id = s.job_id AND b.key = s.key AND s.spilled
WHERE s.job_id = %(job_id)s::bigint AND s.key = %(key)s::text
