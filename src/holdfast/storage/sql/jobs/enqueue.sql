-- Enqueues jobs through the schema's function, the one way in for every driver and language.
-- jobs: a JSON array as text. Returns (id, conflict, replaced) of each, in order.
-- Commits with the caller's transaction. Locks: unique keys, until that ends.
SELECT e.id, e.conflict, e.replaced FROM holdfast.enqueue(%(jobs)s::text::jsonb) AS e
