-- Enqueues jobs through the schema's function, the one way in for every driver and language.
-- jobs: a JSON array as text. Returns the ids, in order. Commits with the caller's transaction.
SELECT e.id FROM holdfast.enqueue(%(jobs)s::text::jsonb) AS e
