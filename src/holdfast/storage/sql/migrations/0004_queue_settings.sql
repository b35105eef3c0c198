-- 0004: queues at run time. What somebody set with `pause`, `resume` and `scale`; workers read it
-- when they start, when they are told, and now and then.

-- A queue that nobody has set anything for has no row. `worker` is the name of a worker, or '' for
-- all of them; `slots` NULL leaves it to what the worker was started with.
CREATE TABLE holdfast.queue (
    name text NOT NULL,
    worker text NOT NULL DEFAULT '',
    slots integer,
    paused_at timestamptz,
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (name, worker),
    CONSTRAINT queue_names_length CHECK (
        char_length(name) BETWEEN 1 AND 128 AND char_length(worker) <= 128
    ),
    CONSTRAINT queue_slots_range CHECK (slots BETWEEN 0 AND 10000)
);

-- `name` is the same for all processes of one `holdfast worker`; `queues` has the slots in force.
-- `closed`: it was started with a list of queues, and takes another only when it is named.
ALTER TABLE holdfast.worker
    ADD COLUMN name text NOT NULL DEFAULT '',
    ADD COLUMN paused text[] NOT NULL DEFAULT '{}',
    ADD COLUMN closed boolean NOT NULL DEFAULT false;
