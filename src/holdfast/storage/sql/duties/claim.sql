-- Takes one duty that is due, and sets when it is due again; a rival's is skipped, not waited for.
-- Returns its name, or nothing. Locks: the duty's row, until the commit.
UPDATE holdfast.duty AS y
SET next_at = holdfast.clock() + y.every
WHERE y.name = (
    SELECT d.name
    FROM holdfast.duty AS d
    WHERE d.next_at <= holdfast.clock()
    ORDER BY d.next_at
    LIMIT 1
    FOR UPDATE SKIP LOCKED
)
RETURNING y.name
