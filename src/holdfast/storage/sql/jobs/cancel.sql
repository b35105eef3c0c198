-- Cancels jobs through the schema's function. ids, reason. Returns (id, state) of those found.
SELECT c.id, c.state FROM holdfast.cancel(%(ids)s::bigint[], %(reason)s::text) AS c
