-- Deletes jobs through the schema's function. ids. Returns (id, state) of those found.
SELECT d.id, d.state FROM holdfast.delete(%(ids)s::text::bigint[]) AS d
