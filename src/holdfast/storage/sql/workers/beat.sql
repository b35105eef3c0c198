-- One heartbeat of a supervisor: renews the leases of its workers and looks after the others'.
--
-- supervisor_id, lease_s, grace_s (how long a session lock must be gone).
-- Returns (kind, id): 'renewed' for each of its workers, 'suspect' for a foreign one whose lock is
-- gone but not yet for grace_s, 'dead' for one that may be rescued, 'duty' when one is due.
-- Amnesty: while the server is younger than a lease nobody is dead, for nobody could renew.
-- Locks: own worker rows; foreign ones only to note a missing lock, skipped when locked.
WITH renewed AS (
    UPDATE holdfast.worker AS w
    SET renewed_at = holdfast.clock(),
        expires_at = holdfast.clock() + %(lease_s)s::float8 * interval '1 second',
        lock_missing_since = NULL
    WHERE w.supervisor_id = %(supervisor_id)s::bigint AND NOT w.declared_dead
    RETURNING w.id
),
other AS MATERIALIZED (
    SELECT w.id, w.lock_key, w.expires_at, w.lock_missing_since
    FROM holdfast.worker AS w
    WHERE w.supervisor_id <> %(supervisor_id)s::bigint
),
held AS MATERIALIZED (
    SELECT (l.classid::bigint << 32) | l.objid::bigint AS key
    FROM pg_locks AS l
    WHERE l.locktype = 'advisory'
      AND l.objsubid = 1
      AND l.granted
      AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
      AND EXISTS (SELECT 1 FROM other)
),
unlocked AS MATERIALIZED (
    SELECT o.id, o.lock_missing_since
    FROM other AS o
    WHERE o.lock_key IS NOT NULL AND o.lock_key NOT IN (SELECT h.key FROM held AS h)
),
noted AS (
    UPDATE holdfast.worker AS w
    SET lock_missing_since = holdfast.clock()
    WHERE w.id IN (
        SELECT n.id
        FROM holdfast.worker AS n
        WHERE n.id IN (SELECT u.id FROM unlocked AS u) AND n.lock_missing_since IS NULL
        FOR NO KEY UPDATE SKIP LOCKED
    )
    RETURNING w.id
),
dead AS (
    SELECT o.id
    FROM other AS o
    WHERE pg_postmaster_start_time() < clock_timestamp() - %(lease_s)s::float8 * interval '1 second'
      AND (
          o.expires_at <= holdfast.clock()
          OR EXISTS (
              SELECT 1
              FROM unlocked AS u
              WHERE u.id = o.id
                AND u.lock_missing_since
                    <= holdfast.clock() - %(grace_s)s::float8 * interval '1 second'
          )
      )
)
SELECT 'renewed', r.id FROM renewed AS r
UNION ALL
SELECT 'dead', d.id FROM dead AS d
UNION ALL
SELECT 'suspect', u.id FROM unlocked AS u WHERE u.id NOT IN (SELECT d.id FROM dead AS d)
UNION ALL
SELECT 'duty', 0
FROM holdfast.duty AS y
WHERE y.next_at <= holdfast.clock() AND (SELECT count(*) FROM noted) >= 0
