-- Reads the newest applied migration; NULL when none is. Fails when the schema is missing.
SELECT max(m.version) FROM holdfast.migration AS m
