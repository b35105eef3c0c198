-- Removes finished jobs past their rule, through the schema's function. most: jobs in this call.
-- Returns how many went. Locks: those rows, skipping what somebody else has locked.
SELECT holdfast.prune(%(most)s::integer)
