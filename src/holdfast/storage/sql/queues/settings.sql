-- Reads what was set for queues that concerns one worker. worker: its name.
-- Returns (queue, worker or '', slots or NULL, whether paused). Reads a small table.
SELECT q.name, q.worker, q.slots, q.paused_at IS NOT NULL
FROM holdfast.queue AS q
WHERE q.worker IN ('', %(worker)s::text)
