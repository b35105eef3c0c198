-- Lists who keeps vacuum from removing dead rows here, oldest first: sessions with a transaction
-- or snapshot, prepared transactions, replication slots.
--
-- Returns kind, pid, name, user, state, seconds since it began (NULL: unknown), age of its xmin in
-- transactions, seconds since its statement began, the statement's first 200 characters.
-- Sessions of other roles whose state we may not see are not among them: see inspect/hidden.
-- Vacuum disregards its own workers, and sessions in other databases. Locks: none.
SELECT
    h.kind, h.pid, h.name, h.usename, h.state,
    extract(epoch FROM holdfast.clock() - h.began)::float8,
    h.xid_age,
    extract(epoch FROM holdfast.clock() - h.asked)::float8,
    h.query
FROM (
    SELECT
        'session' AS kind, a.pid, a.application_name AS name, a.usename::text, a.state,
        a.xact_start AS began, greatest(age(a.backend_xmin), age(a.backend_xid)) AS xid_age,
        a.query_start AS asked, left(a.query, 200) AS query
    FROM pg_stat_activity AS a
    WHERE (a.datname = current_database() OR a.backend_type = 'walsender')
      AND a.backend_type <> 'autovacuum worker'
      AND a.pid <> pg_backend_pid()
      AND (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL)
    UNION ALL
    SELECT
        'prepared transaction', NULL, p.gid, p.owner::text, NULL, p.prepared, age(p.transaction),
        NULL, NULL
    FROM pg_prepared_xacts AS p
    WHERE p.database = current_database()
    UNION ALL
    SELECT
        'replication slot', s.active_pid, s.slot_name::text, NULL,
        CASE WHEN s.active THEN 'active' ELSE 'inactive' END, NULL, age(s.xmin), NULL, NULL
    FROM pg_replication_slots AS s
    WHERE s.xmin IS NOT NULL
) AS h
ORDER BY h.xid_age DESC, h.began
LIMIT 5
