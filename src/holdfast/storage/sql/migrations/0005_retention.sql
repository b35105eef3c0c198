-- 0005: how long finished jobs are kept, removing them, and deleting jobs by hand.

-- The most specific rule counts: queue and state, queue, state, neither; '' means any. `keep` NULL:
-- for ever, as without a rule. Counted from the end of the job.
CREATE TABLE holdfast.retention (
    queue text NOT NULL DEFAULT '',
    state text NOT NULL DEFAULT '',
    keep interval,
    PRIMARY KEY (queue, state),
    CONSTRAINT retention_state_is_final CHECK (
        state IN ('', 'completed', 'discarded', 'cancelled')
    ),
    CONSTRAINT retention_keep_positive CHECK (keep >= interval '0')
);
INSERT INTO holdfast.retention (state, keep)
VALUES
    ('completed', interval '30 days'),
    ('cancelled', interval '30 days'),
    ('discarded', interval '90 days');

INSERT INTO holdfast.duty (name, every, next_at)
VALUES ('prune', interval '10 minutes', clock_timestamp());

-- Removes what hangs on jobs that are about to go: steps, history, large results.
CREATE FUNCTION holdfast.forget_jobs(ids bigint[]) RETURNS void
LANGUAGE sql
AS $$
    DELETE FROM holdfast.step AS s WHERE s.job_id = ANY (ids);
    DELETE FROM holdfast.execution AS e WHERE e.job_id = ANY (ids);
    DELETE FROM holdfast.blob AS b WHERE b.job_id = ANY (ids);
$$;

-- Deletes jobs with all that is known of them; one that runs is left alone, and so is its journal.
-- Returns each job found with `deleted`, or `executing` when it was left alone.
CREATE FUNCTION holdfast.delete(ids bigint[]) RETURNS TABLE (id bigint, state text)
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
    running bigint[];
    gone bigint[];
BEGIN
    -- As in `retry`: the archive first, each locked by a statement of its own.
    PERFORM 1 FROM holdfast.job_archive AS f WHERE f.id = ANY (ids) ORDER BY f.id FOR UPDATE;
    PERFORM 1 FROM holdfast.job AS j WHERE j.id = ANY (ids) ORDER BY j.id FOR UPDATE;
    running := ARRAY(
        SELECT j.id FROM holdfast.job AS j WHERE j.id = ANY (ids) AND j.state = 'executing'
    );
    WITH live AS (
        DELETE FROM holdfast.job AS j
        WHERE j.id = ANY (ids) AND j.id <> ALL (running)
        RETURNING j.id, j.awaited
    ),
    final AS (
        DELETE FROM holdfast.job_archive AS f WHERE f.id = ANY (ids) RETURNING f.id
    ),
    told AS (
        SELECT pg_notify(holdfast.channel('done'), '')
        WHERE EXISTS (SELECT 1 FROM live AS l WHERE l.awaited)
    )
    SELECT array_agg(d.id) INTO gone
    FROM (SELECT l.id FROM live AS l UNION ALL SELECT f.id FROM final AS f) AS d
    WHERE (SELECT count(*) FROM told) >= 0;
    PERFORM holdfast.forget_jobs(gone);
    DELETE FROM holdfast.unique_key AS u WHERE u.job_id = ANY (gone);
    RETURN QUERY
    SELECT g, 'deleted' FROM unnest(gone) AS g
    UNION ALL
    SELECT r, 'executing' FROM unnest(running) AS r;
END
$$;

-- Drops the oldest of the archive's partitions whose day is over and in which every job is past its
-- rule, with all that hangs on its jobs. Returns its name and how many jobs went, or nothing: call
-- it until then, so that each has a transaction of its own. Leaves it to a rival who is at it, and to
-- the next time when somebody reads the archive for long: every finish would queue behind our wait
-- for the lock.
CREATE FUNCTION holdfast.drop_partition() RETURNS TABLE (partition text, jobs bigint)
LANGUAGE plpgsql
SET lock_timeout = '500ms'
AS $$
DECLARE
    shortest interval;
    part text;
    child text;
    keeps boolean;
    gone bigint;
BEGIN
    PERFORM 1 FROM holdfast.duty AS y WHERE y.name = 'prune' FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT min(r.keep) INTO shortest FROM holdfast.retention AS r;
    FOR part IN
        SELECT c.relname
        FROM pg_inherits AS i
        JOIN pg_class AS c ON c.oid = i.inhrelid
        WHERE i.inhparent = format('%I.job_archive', holdfast.schema_name())::regclass
          AND c.relname ~ '^job_archive_[0-9]{8}$'
          AND (to_date(right(c.relname, 8), 'YYYYMMDD') + 1)::timestamp AT TIME ZONE 'UTC'
              <= holdfast.clock() - shortest
        ORDER BY c.relname
    LOOP
        -- A kind of job without a rule, or with one that says for ever, keeps its partition.
        EXECUTE format(
            'SELECT EXISTS ( '
            'SELECT 1 FROM %1$I.%2$I AS f LEFT JOIN LATERAL ( '
            'SELECT r.keep FROM %1$I.retention AS r '
            'WHERE r.queue IN (f.queue, %3$L) AND r.state IN (f.state, %3$L) '
            'ORDER BY r.queue <> %3$L DESC, r.state <> %3$L DESC LIMIT 1 '
            ') AS k ON true '
            'WHERE k.keep IS NULL OR f.finished_at > %1$I.clock() - k.keep)',
            holdfast.schema_name(), part, ''
        ) INTO keeps;
        CONTINUE WHEN keeps;
        BEGIN
            -- Against `retry`, which brings a job back with its steps; readers are let in.
            EXECUTE format(
                'LOCK TABLE %I.%I IN SHARE ROW EXCLUSIVE MODE', holdfast.schema_name(), part
            );
            EXECUTE format('SELECT count(*) FROM %I.%I', holdfast.schema_name(), part) INTO gone;
            FOREACH child IN ARRAY ARRAY['step', 'execution', 'blob'] LOOP
                EXECUTE format(
                    'DELETE FROM %1$I.%2$I WHERE job_id IN (SELECT id FROM %1$I.%3$I)',
                    holdfast.schema_name(), child, part
                );
            END LOOP;
            EXECUTE format('DROP TABLE %I.%I', holdfast.schema_name(), part);
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            -- Not the next partition: dropping any needs the lock on the whole archive.
            RETURN;
        END;
        RETURN QUERY SELECT part, gone;
        RETURN;
    END LOOP;
END
$$;

-- Removes up to `most` finished jobs that are past their rule, the oldest first, and up to `most`
-- keys whose period is over. Returns how many went: call it until both are 0.
CREATE FUNCTION holdfast.prune(most integer) RETURNS TABLE (jobs bigint, keys bigint)
LANGUAGE plpgsql
AS $$
DECLARE
    shortest interval;
    ids bigint[];
    freed bigint;
BEGIN
    DELETE FROM holdfast.unique_key AS u
    WHERE u.key IN (
        SELECT o.key
        FROM holdfast.unique_key AS o
        WHERE o.until <= holdfast.clock()
        LIMIT most
        FOR UPDATE SKIP LOCKED
    );
    GET DIAGNOSTICS freed = ROW_COUNT;
    SELECT min(r.keep) INTO shortest FROM holdfast.retention AS r;
    -- What a rival has locked is skipped: another prune, or a `retry`, which takes it away.
    ids := ARRAY(
        SELECT f.id
        FROM holdfast.job_archive AS f
        CROSS JOIN LATERAL (
            SELECT r.keep
            FROM holdfast.retention AS r
            WHERE r.queue IN (f.queue, '') AND r.state IN (f.state, '')
            ORDER BY r.queue <> '' DESC, r.state <> '' DESC
            LIMIT 1
        ) AS k
        WHERE f.finished_at <= holdfast.clock() - shortest
          AND f.finished_at <= holdfast.clock() - k.keep
        ORDER BY f.finished_at
        LIMIT most
        FOR UPDATE OF f SKIP LOCKED
    );
    PERFORM holdfast.forget_jobs(ids);
    DELETE FROM holdfast.job_archive AS f
    WHERE f.id = ANY (ids) AND f.finished_at <= holdfast.clock() - shortest;
    RETURN QUERY SELECT cardinality(ids)::bigint, freed;
END
$$;
