-- Counts the jobs that stopped for a person, by reason, the most frequent first; of the first
-- 10,000 found.
--
-- Returns reason, how many, the smallest id.
SELECT s.wait_reason, count(*), min(s.id)
FROM (
    SELECT j.id, j.wait_reason
    FROM holdfast.job AS j
    WHERE j.state = 'attention'
    LIMIT 10000
) AS s
GROUP BY s.wait_reason
ORDER BY count(*) DESC, s.wait_reason
