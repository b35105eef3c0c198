-- Lists the rules of retention, the general ones first. Returns (queue, state, seconds or NULL).
SELECT r.queue, r.state, extract(epoch FROM r.keep)::float8
FROM holdfast.retention AS r
ORDER BY r.queue, r.state
