-- 0002: unique jobs, and an enqueue that leaves the caller's transaction usable when it fails.
--
-- A job with a `unique_key` is the only unfinished one that has it: the partial index below says so,
-- and finished jobs leave the table. `unique_key.until` keeps a key taken for longer than that.

ALTER TABLE holdfast.job ADD COLUMN unique_key text;
ALTER TABLE holdfast.job ADD CONSTRAINT job_unique_key_length
    CHECK (char_length(unique_key) BETWEEN 1 AND 512);
ALTER TABLE holdfast.job_archive ADD COLUMN unique_key text;

-- Holds only jobs that have a key: plain jobs pay nothing for it.
CREATE UNIQUE INDEX job_unique ON holdfast.job (unique_key) WHERE unique_key IS NOT NULL;

-- Keys that stay taken for a period after their job was enqueued, whatever became of the job.
CREATE TABLE holdfast.unique_key (
    key text PRIMARY KEY,
    job_id bigint NOT NULL,
    until timestamptz NOT NULL
);
CREATE INDEX unique_key_until ON holdfast.unique_key (until);

CREATE OR REPLACE VIEW holdfast.jobs AS
SELECT
    j.id, j.state, j.queue, j.name, j.args, j.priority, j.run_at, j.created_at, j.started_at,
    NULL::timestamptz AS finished_at, j.deadline, j.cancel_requested_at, j.failures,
    j.max_attempts, j.crashes, j.max_crashes, j.resumes, j.epoch, j.worker_id, j.wait_reason,
    j.wait_detail, j.code_version, j.tags, j.meta, j.progress, j.progress_done,
    j.progress_total, j.progress_text, NULL::bytea AS result, NULL::smallint AS codec,
    false AS spilled, j.unique_key
FROM holdfast.job AS j
UNION ALL
SELECT
    f.id, f.state, f.queue, f.name, f.args, f.priority, f.run_at, f.created_at, f.started_at,
    f.finished_at, f.deadline, f.cancel_requested_at, f.failures, f.max_attempts, f.crashes,
    f.max_crashes, f.resumes, f.epoch, f.worker_id, f.wait_reason, f.wait_detail,
    f.code_version, f.tags, f.meta, f.progress, f.progress_done, f.progress_total,
    f.progress_text, f.result, f.codec, f.spilled, f.unique_key
FROM holdfast.job_archive AS f;

-- One element of what `enqueue` was given, as columns; the last three are added to it.
CREATE TYPE holdfast.new_job AS (
    name text, queue text, args jsonb, priority smallint, run_in double precision,
    run_at timestamptz, deadline_in double precision, max_attempts integer, max_crashes integer,
    tags text[], meta jsonb, code_version text, "unique" jsonb, place integer, id bigint, key text
);

-- The key of a job that is to be unique: its name and `key`, or its name and a digest of the arguments
-- that `args` lists, or of all. The first slash or question mark ends the name, so those in it are
-- escaped.
CREATE FUNCTION holdfast.unique_key_of(name text, args jsonb, rule jsonb) RETURNS text
LANGUAGE sql IMMUTABLE
AS $$
    SELECT replace(replace(replace(name, '~', '~0'), '/', '~1'), '?', '~2') || CASE
        WHEN rule ? 'key' THEN '/' || (rule ->> 'key')
        ELSE '?' || encode(sha256(convert_to(coalesce((
            SELECT jsonb_object_agg(e.key, e.value)
            FROM jsonb_each(coalesce(args, '{}')) AS e
            WHERE coalesce(rule -> 'args', 'null') = 'null' OR (rule -> 'args') ? e.key
        ), '{}')::text, 'UTF8')), 'hex')
    END
$$;

-- Raises for what nobody would read in a job's `unique`, naming it.
CREATE FUNCTION holdfast.check_unique(rule jsonb) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    known constant text[] := ARRAY['key', 'args', 'period', 'replace'];
    odd text;
BEGIN
    IF jsonb_typeof(rule) <> 'object' THEN
        RAISE EXCEPTION 'enqueue: unique is %', rule
            USING ERRCODE = 'HF102', HINT = 'It is an object; {} means: all arguments.';
    END IF;
    SELECT min(k) INTO odd FROM jsonb_object_keys(rule - known) AS k;
    IF odd IS NOT NULL THEN
        RAISE EXCEPTION 'enqueue: unknown key % in unique', quote_literal(odd)
            USING ERRCODE = 'HF102', HINT = 'Known keys: ' || array_to_string(known, ', ');
    END IF;
    IF jsonb_typeof(rule -> 'key') <> 'string' THEN
        RAISE EXCEPTION 'enqueue: key % in unique is not a text', rule -> 'key'
            USING ERRCODE = 'HF102', HINT = 'Leave it out for uniqueness by arguments.';
    END IF;
    IF jsonb_typeof(rule -> 'args') <> 'array' THEN
        RAISE EXCEPTION 'enqueue: args % in unique is not a list of names', rule -> 'args'
            USING ERRCODE = 'HF102', HINT = 'Leave it out to compare all arguments.';
    END IF;
    IF NOT '["args", "run_at", "priority"]'::jsonb @> (rule -> 'replace') THEN
        RAISE EXCEPTION 'enqueue: replace % in unique', rule -> 'replace'
            USING ERRCODE = 'HF102', HINT = 'A list of: args, run_at, priority.';
    END IF;
END
$$;

-- Wakes workers, once a queue, for jobs that are due soon; their own timers find the others.
CREATE FUNCTION holdfast.wake(ids bigint[]) RETURNS void
LANGUAGE sql
AS $$
    SELECT pg_notify(holdfast.channel('wake'), due.queue)
    FROM (
        SELECT DISTINCT j.queue
        FROM holdfast.job AS j
        WHERE j.id = ANY (ids)
          AND j.state = 'available'
          AND j.run_at <= holdfast.clock() + interval '10 seconds'
    ) AS due
$$;

-- Inserts jobs, those with a key only where no unfinished job has it; returns the ids inserted.
-- Sorted by key, so that two that enqueue the same keys wait for each other in one order.
CREATE FUNCTION holdfast.insert_jobs(new_jobs holdfast.new_job[]) RETURNS SETOF bigint
LANGUAGE sql
AS $$
    INSERT INTO holdfast.job (
        id, name, queue, args, priority, run_at, created_at, deadline,
        max_attempts, max_crashes, tags, meta, code_version, unique_key
    )
    SELECT
        n.id, n.name, coalesce(n.queue, 'default'), coalesce(n.args, '{}'),
        coalesce(n.priority, 0),
        coalesce(n.run_at, holdfast.clock() + coalesce(n.run_in, 0) * interval '1 second'),
        holdfast.clock(),
        coalesce(n.run_at, holdfast.clock() + coalesce(n.run_in, 0) * interval '1 second')
            + n.deadline_in * interval '1 second',
        coalesce(n.max_attempts, 20), coalesce(n.max_crashes, 3), coalesce(n.tags, '{}'),
        coalesce(n.meta, '{}'), n.code_version, n.key
    FROM unnest(new_jobs) AS n
    ORDER BY n.key, n.place
    ON CONFLICT (unique_key) WHERE unique_key IS NOT NULL DO NOTHING
    RETURNING job.id
$$;

-- Takes the keys that are to stay taken for a period; of two with one key the first gets it, and
-- nobody, with a period or without, while an earlier job's period lasts. Returns the ids of those
-- that were refused. For jobs that are in the table already: their keys have one holder by its index.
CREATE FUNCTION holdfast.refused_periods(new_jobs holdfast.new_job[]) RETURNS SETOF bigint
LANGUAGE sql
AS $$
    WITH asked AS (
        SELECT n.key, n.id, (n."unique" ->> 'period')::float8 * interval '1 second' AS period
        FROM unnest(new_jobs) AS n
        WHERE n.key IS NOT NULL
    ),
    held AS (
        INSERT INTO holdfast.unique_key AS u (key, job_id, until)
        SELECT a.key, a.id, holdfast.clock() + a.period
        FROM asked AS a
        WHERE a.period IS NOT NULL
        ORDER BY a.key
        ON CONFLICT (key) DO UPDATE
        SET job_id = excluded.job_id, until = excluded.until
        WHERE u.until <= holdfast.clock()
        RETURNING u.job_id
    )
    SELECT a.id
    FROM asked AS a
    WHERE a.period IS NOT NULL AND a.id NOT IN (SELECT h.job_id FROM held AS h)
    UNION ALL
    SELECT a.id
    FROM asked AS a
    JOIN holdfast.unique_key AS u ON u.key = a.key
    WHERE a.period IS NULL AND u.until > holdfast.clock()
$$;

-- Lets a job that has not started yet take over what the rule lists from one that was refused.
CREATE FUNCTION holdfast.replace_job(holder bigint, new holdfast.new_job) RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
    what constant jsonb := new."unique" -> 'replace';
    due constant timestamptz := coalesce(
        new.run_at, holdfast.clock() + coalesce(new.run_in, 0) * interval '1 second'
    );
BEGIN
    UPDATE holdfast.job AS j
    SET args = CASE WHEN what ? 'args' THEN coalesce(new.args, '{}') ELSE j.args END,
        run_at = CASE WHEN what ? 'run_at' THEN due ELSE j.run_at END,
        deadline = CASE
            WHEN what ? 'run_at' THEN due + new.deadline_in * interval '1 second'
            ELSE j.deadline
        END,
        priority = CASE
            WHEN what ? 'priority' THEN coalesce(new.priority, 0)
            ELSE j.priority
        END
    WHERE j.id = holder AND j.state = 'available' AND j.started_at IS NULL;
    RETURN FOUND;
END
$$;

-- Enqueues jobs of which some are to be unique. Whoever holds a key in a transaction that is still
-- open is waited for: if it rolls back, the key is ours, so that nothing is lost.
CREATE FUNCTION holdfast.enqueue_unique(batch jsonb)
RETURNS TABLE (id bigint, conflict boolean, replaced boolean)
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
    sequence constant text := pg_get_serial_sequence(
        format('%I.job', holdfast.schema_name()), 'id'
    );
    open holdfast.new_job[];
    added bigint[];
    refused bigint[];
    places integer[] := '{}';
    ids bigint[] := '{}';
    conflicts boolean[] := '{}';
    replacements integer[] := '{}';
    loser record;
BEGIN
    open := ARRAY(
        SELECT (
            r.name, r.queue, p.args, r.priority, r.run_in, r.run_at, r.deadline_in, r.max_attempts,
            r.max_crashes, r.tags, r.meta, r.code_version, r."unique", p.place, nextval(sequence),
            CASE WHEN jsonb_typeof(r."unique") = 'object'
                THEN holdfast.unique_key_of(r.name, p.args, r."unique") END
        )::holdfast.new_job
        FROM (
            SELECT e.job, row_number() OVER (ORDER BY e.place, a.number) AS place, a.args
            FROM jsonb_array_elements(batch) WITH ORDINALITY AS e (job, place)
            CROSS JOIN LATERAL jsonb_array_elements(
                coalesce(e.job -> 'many', jsonb_build_array(coalesce(e.job -> 'args', '{}')))
            ) WITH ORDINALITY AS a (args, number)
        ) AS p
        CROSS JOIN LATERAL jsonb_populate_record(NULL::holdfast.new_job, p.job - 'many') AS r
        ORDER BY p.place
    );
    WHILE open <> '{}' LOOP
        added := ARRAY(SELECT holdfast.insert_jobs(open));
        refused := ARRAY(SELECT holdfast.refused_periods(ARRAY(
            SELECT o FROM unnest(open) AS o JOIN unnest(added) AS a (id) ON a.id = o.id
        )));
        DELETE FROM holdfast.job AS j WHERE j.id = ANY (refused);
        -- By a statement of its own, which sees what those we waited for have committed. What has
        -- neither been added nor has a holder any more stays open and is tried again.
        WITH answer AS (
            SELECT o.place, a.id AS own, coalesce(a.id, j.id, u.job_id) AS id
            FROM unnest(open) AS o
            LEFT JOIN (
                SELECT x.id FROM unnest(added) AS x (id)
                EXCEPT SELECT y.id FROM unnest(refused) AS y (id)
            ) AS a ON a.id = o.id
            LEFT JOIN holdfast.job AS j ON j.unique_key = o.key
            LEFT JOIN holdfast.unique_key AS u ON u.key = o.key AND u.until > holdfast.clock()
        )
        SELECT
            places || array_agg(w.place), ids || array_agg(w.id),
            conflicts || array_agg(w.own IS NULL)
        INTO places, ids, conflicts
        FROM answer AS w
        WHERE w.id IS NOT NULL;
        FOR loser IN
            SELECT d.id, o AS job
            FROM unnest(places, ids, conflicts) AS d (place, id, conflict)
            JOIN unnest(open) AS o ON o.place = d.place
            WHERE d.conflict AND coalesce(o."unique" -> 'replace', '[]') <> '[]'
            ORDER BY o.key, o.place
        LOOP
            IF holdfast.replace_job(loser.id, loser.job) THEN
                replacements := replacements || (loser.job).place;
            END IF;
        END LOOP;
        open := ARRAY(
            SELECT o FROM unnest(open) AS o
            WHERE NOT EXISTS (SELECT 1 FROM unnest(places) AS d (place) WHERE d.place = o.place)
        );
    END LOOP;
    PERFORM holdfast.wake(ids);
    RETURN QUERY
    SELECT d.id, d.conflict, r.place IS NOT NULL
    FROM unnest(places, ids, conflicts) AS d (place, id, conflict)
    LEFT JOIN unnest(replacements) AS r (place) ON r.place = d.place
    ORDER BY d.place;
END
$$;

DROP FUNCTION holdfast.enqueue(jsonb);

-- Enqueues one job (an object) or many (an array) in one statement; answers come back in order.
-- Keys: name (required), queue, args, priority, run_in (seconds), run_at, deadline_in (seconds),
-- max_attempts, max_crashes, tags, meta, code_version, unique, many. An unknown key is an error.
-- `many` is a list of arguments instead of `args`: one job for each, otherwise alike.
-- `unique` is an object: {"key": text} or {"args": [names]} or {} for all arguments; "period": seconds
-- to keep the key at least; "replace": what a job that has not started takes over instead of being
-- left as it is (args, run_at, priority). With `conflict` the id is that of the job that was there.
-- Jobs due soon wake workers, once per queue; later ones are found by the workers' own timers.
CREATE FUNCTION holdfast.enqueue(jobs jsonb)
RETURNS TABLE (id bigint, conflict boolean, replaced boolean)
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
    batch jsonb := CASE jsonb_typeof(jobs) WHEN 'object' THEN jsonb_build_array(jobs) ELSE jobs END;
    known constant text[] := ARRAY[
        'name', 'queue', 'args', 'priority', 'run_in', 'run_at', 'deadline_in', 'max_attempts',
        'max_crashes', 'tags', 'meta', 'code_version', 'unique', 'many'
    ];
    odd text;
BEGIN
    SELECT (SELECT min(k) FROM jsonb_object_keys(e.value - known) AS k) INTO odd
    FROM jsonb_array_elements(batch) AS e
    WHERE e.value - known <> '{}'
    LIMIT 1;
    IF odd IS NOT NULL THEN
        RAISE EXCEPTION 'enqueue: unknown key %', quote_literal(odd)
            USING ERRCODE = 'HF102', HINT = 'Known keys: ' || array_to_string(known, ', ');
    END IF;
    IF EXISTS (
        SELECT 1 FROM jsonb_array_elements(batch) AS e WHERE e.value ?& ARRAY['args', 'many']
    ) THEN
        RAISE EXCEPTION 'enqueue: a job has both args and many'
            USING ERRCODE = 'HF102', HINT = 'many is a list of args: give one of them.';
    END IF;
    PERFORM holdfast.check_unique(e.value -> 'unique')
    FROM jsonb_array_elements(batch) AS e
    WHERE jsonb_typeof(e.value -> 'unique') <> 'null';
    IF FOUND THEN
        RETURN QUERY SELECT u.id, u.conflict, u.replaced FROM holdfast.enqueue_unique(batch) AS u;
        RETURN;
    END IF;
    RETURN QUERY
    WITH inserted AS (
        INSERT INTO holdfast.job (
            name, queue, args, priority, run_at, created_at, deadline,
            max_attempts, max_crashes, tags, meta, code_version
        )
        SELECT
            r.name,
            coalesce(r.queue, 'default'),
            a.args,
            coalesce(r.priority, 0),
            coalesce(r.run_at, holdfast.clock() + coalesce(r.run_in, 0) * interval '1 second'),
            holdfast.clock(),
            coalesce(r.run_at, holdfast.clock() + coalesce(r.run_in, 0) * interval '1 second')
                + r.deadline_in * interval '1 second',
            coalesce(r.max_attempts, 20),
            coalesce(r.max_crashes, 3),
            coalesce(r.tags, '{}'),
            coalesce(r.meta, '{}'),
            r.code_version
        FROM ROWS FROM (
            jsonb_to_recordset(batch) AS (
                name text, queue text, args jsonb, priority smallint, run_in double precision,
                run_at timestamptz, deadline_in double precision, max_attempts integer,
                max_crashes integer, tags text[], meta jsonb, code_version text, many jsonb
            )
        ) WITH ORDINALITY AS r (
            name, queue, args, priority, run_in, run_at, deadline_in, max_attempts,
            max_crashes, tags, meta, code_version, many, position
        )
        CROSS JOIN LATERAL jsonb_array_elements(
            coalesce(r.many, jsonb_build_array(coalesce(r.args, '{}')))
        ) WITH ORDINALITY AS a (args, number)
        ORDER BY r.position, a.number
        RETURNING job.id, job.queue, job.run_at
    ),
    woken AS (
        SELECT pg_notify(holdfast.channel('wake'), due.queue)
        FROM (
            SELECT DISTINCT i.queue
            FROM inserted AS i
            WHERE i.run_at <= holdfast.clock() + interval '10 seconds'
        ) AS due
    )
    SELECT i.id, false, false
    FROM inserted AS i
    WHERE (SELECT count(*) FROM woken) >= 0;
END
$$;

-- `enqueue` for a caller's own transaction: what is wrong with the jobs comes back as a row instead
-- of an error, so that the transaction stays usable. Errors that make no statement of the
-- transaction possible any more, or that another try may cure, are raised.
CREATE FUNCTION holdfast.try_enqueue(jobs text)
RETURNS TABLE (
    id bigint, conflict boolean, replaced boolean, fault text, fault_text text, fault_hint text
)
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
    code text;
    message text;
    hint text;
BEGIN
    RETURN QUERY
    SELECT e.id, e.conflict, e.replaced, NULL::text, NULL::text, NULL::text
    FROM holdfast.enqueue(jobs::jsonb) AS e;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS
        code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
    IF left(code, 2) IN ('40', '53', '55', '57', '58', 'XX') THEN
        RAISE;
    END IF;
    RETURN QUERY SELECT NULL::bigint, NULL::boolean, NULL::boolean, code, message, hint;
END
$$;
