-- Enqueues jobs inside the caller's own transaction, which stays usable if they are refused.
-- jobs: a JSON array as text. Returns (id, conflict, replaced) of each, in order, or one row that
-- has only fault (SQLSTATE), fault_text, fault_hint. Locks: unique keys, until that commits.
SELECT e.id, e.conflict, e.replaced, e.fault, e.fault_text, e.fault_hint
FROM holdfast.try_enqueue(%(jobs)s::text) AS e
