-- Reads the process id of the session that answers: behind a pooler not the one we were told of.
SELECT pg_backend_pid()
