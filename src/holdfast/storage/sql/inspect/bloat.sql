-- Reads how many dead rows the hot tables carry and how large they and the claim index are.
--
-- schema (as text, for the catalogue).
-- Returns table, live rows, dead rows, seconds since it was last vacuumed (NULL: never), bytes of
-- the table with its indexes, bytes of its claim index (NULL: it has none). Counts are the
-- statistics', not exact. Locks: ACCESS SHARE on the tables, briefly.
SELECT
    t.relname::text, t.n_live_tup, t.n_dead_tup,
    extract(
        epoch FROM holdfast.clock() - greatest(t.last_autovacuum, t.last_vacuum)
    )::float8,
    pg_total_relation_size(t.relid),
    (
        SELECT pg_relation_size(i.indexrelid)
        FROM pg_stat_user_indexes AS i
        WHERE i.relid = t.relid AND i.indexrelname = 'job_claim'
    )
FROM pg_stat_user_tables AS t
WHERE t.schemaname = %(schema)s::text AND t.relname IN ('job', 'step', 'worker')
ORDER BY t.relname
