-- Tells whether a worker still has a row: it goes when it owns no running job any more.
-- worker_id. Index: primary key.
SELECT EXISTS (SELECT 1 FROM holdfast.worker AS w WHERE w.id = %(worker_id)s::bigint)
