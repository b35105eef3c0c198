-- Enqueues jobs through the schema's function, the one way in for every driver and language.
-- jobs: a JSON array as text. Returns one row: the ids in order, and where a unique job was there
-- already, which of them were (conflict) and which took something over (replaced), else NULL.
-- Commits with the caller's transaction. Locks: unique keys, until that ends.
SELECT
    array_agg(e.id),
    CASE WHEN bool_or(e.conflict) THEN array_agg(e.conflict) END,
    CASE WHEN bool_or(e.conflict) THEN array_agg(e.replaced) END
FROM holdfast.enqueue(%(jobs)s::text::jsonb) AS e
