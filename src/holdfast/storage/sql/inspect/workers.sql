-- Reads the workers whose leases nobody has taken over, for people. Returns one row a worker.
SELECT
    w.id, w.supervisor_id, w.pid, w.host, w.app, w.code_version, w.started_at, w.renewed_at,
    w.expires_at, w.queues::text,
    (SELECT count(*) FROM holdfast.job AS j WHERE j.worker_id = w.id AND j.state = 'executing'),
    w.name, w.paused, w.closed, holdfast.clock()
FROM holdfast.worker AS w
ORDER BY w.started_at, w.id
