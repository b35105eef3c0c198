-- Counts the sessions of other roles in this database whose transactions we may not see.
SELECT count(*)
FROM pg_stat_activity AS a
WHERE a.datname = current_database()
  AND a.usename <> current_user
  AND NOT pg_has_role(a.usesysid, 'USAGE')
  AND NOT pg_has_role('pg_read_all_stats', 'USAGE')
