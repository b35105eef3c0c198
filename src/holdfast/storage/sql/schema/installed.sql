-- Finds out whether a schema is installed, by a statement that cannot fail. schema: its name.
-- Returns no row if not, else one: whether this role may read the applied migrations.
SELECT
    pg_catalog.has_schema_privilege(n.oid, 'USAGE')
    AND pg_catalog.has_table_privilege(c.oid, 'SELECT')
FROM pg_catalog.pg_namespace AS n
JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid
WHERE n.nspname = %(schema)s::text AND c.relname = 'migration'
