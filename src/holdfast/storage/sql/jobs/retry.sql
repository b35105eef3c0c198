-- Runs jobs again through the schema's function. ids. Returns (id, state) of those found.
SELECT r.id, r.state FROM holdfast.retry(%(ids)s::text::bigint[]) AS r
