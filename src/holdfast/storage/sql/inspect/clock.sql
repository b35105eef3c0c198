-- Reads the database's clock at the moment the statement arrives.
SELECT extract(epoch FROM holdfast.clock())::float8
