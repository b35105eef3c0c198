-- Cancels jobs through the schema's function. ids, reason. Returns (id, state) of those found.
SELECT c.id, c.state FROM holdfast.cancel(%(ids)s::text::bigint[], %(reason)s::text) AS c
