-- Promise: the session that blocks most others and waits for none itself, without its query.
-- Run only while a session waits: pg_blocking_pids takes the lock manager's own locks.
-- Its pid 0 stands for a prepared transaction.
SELECT blocking.pid, b.usename, b.application_name, b.state, count(*) AS victims,
       coalesce(extract(epoch FROM clock_timestamp() - coalesce(b.state_change, b.xact_start)), 0)
           ::float8 AS seconds
  FROM pg_stat_activity AS w
 CROSS JOIN LATERAL (SELECT DISTINCT unnest(pg_blocking_pids(w.pid)) AS pid) AS blocking
  LEFT JOIN pg_stat_activity AS b ON b.pid = blocking.pid
 WHERE w.wait_event_type = 'Lock' AND b.wait_event_type IS DISTINCT FROM 'Lock'
 GROUP BY blocking.pid, b.usename, b.application_name, b.state, b.state_change, b.xact_start
 ORDER BY victims DESC, seconds DESC LIMIT 1
