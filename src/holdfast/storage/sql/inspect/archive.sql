-- Reads whether the archive has its partitions: days from today on that have one, without a gap,
-- and how many rows lie in the default partition (counted to a thousand).
--
-- schema (as text, for the catalogue), days: how far to look.
SELECT
    coalesce(
        (
            SELECT min(n.day)
            FROM generate_series(0, %(days)s::integer) AS n (day)
            WHERE NOT EXISTS (
                SELECT 1
                FROM pg_class AS c
                JOIN pg_namespace AS s ON s.oid = c.relnamespace
                WHERE s.nspname = %(schema)s::text
                  AND c.relname = 'job_archive_' || to_char(
                      (holdfast.clock() AT TIME ZONE 'UTC')::date + n.day, 'YYYYMMDD'
                  )
            )
        ),
        %(days)s::integer + 1
    ),
    (
        SELECT count(*)
        FROM (SELECT 1 FROM holdfast.job_archive_default AS d LIMIT 1000) AS beside
    )
