-- Reads the newest applied migration, NULL when none is, and the session that answers: behind a
-- pooler it is not the one the client was told of. Fails when the schema is missing.
SELECT max(m.version), pg_backend_pid() FROM holdfast.migration AS m
