-- Makes the archive's partitions of the coming days. days_ahead. Locks: the archive, briefly.
SELECT holdfast.make_partitions(%(days_ahead)s::integer)
