-- Notes which queues a worker serves now, after somebody has changed them.
-- worker_id; queues: JSON, queue to slots; paused: names. Locks: the worker's own row.
UPDATE holdfast.worker AS w
SET queues = %(queues)s::text::jsonb, paused = %(paused)s::text[]
WHERE w.id = %(worker_id)s::bigint
