-- Drops one whole partition of the archive that is past every rule, through the schema's function.
-- Returns (partition, jobs), or nothing when there is none. Locks: the archive, briefly.
SELECT d.partition, d.jobs FROM holdfast.drop_partition() AS d
