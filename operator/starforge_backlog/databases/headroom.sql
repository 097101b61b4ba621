-- Promise: one row, without reading any table of the user, in about half a millisecond with 200
-- sessions. No number is a guess: `unseen` counts the sessions whose
-- kind and state this role may not see, and the reader then believes none of the counts.
--
-- Only client backends use the slots of max_connections; autovacuum, walsenders and parallel
-- workers have pools of their own. Settings that a server does not have count as 0:
-- reserved_connections came with PostgreSQL 16, rds.* exists on RDS alone.
WITH session AS MATERIALIZED (
    SELECT pid, datid, usesysid, usename, backend_type, application_name FROM pg_stat_activity
), client AS (
    SELECT coalesce(usename, '') AS usename, application_name
      FROM session WHERE backend_type = 'client backend'
)
SELECT current_setting('max_connections')::int AS max_connections,
       current_setting('superuser_reserved_connections')::int AS superuser_reserved,
       coalesce(nullif(current_setting('reserved_connections', true), '')::int, 0) AS reserved,
       coalesce(nullif(current_setting('rds.rds_superuser_reserved_connections', true), '')::int, 0)
           AS provider_reserved,
       (SELECT nullif(greatest(datconnlimit, -1), -1)
          FROM pg_database WHERE datname = current_database()) AS database_limit,
       (SELECT coalesce(jsonb_object_agg(rolname, rolconnlimit), '{}')
          FROM pg_roles WHERE rolconnlimit >= 0) AS role_limits,
       (SELECT coalesce(jsonb_object_agg(usename, n), '{}')
          FROM (SELECT usename, count(*) AS n FROM client GROUP BY usename) AS per_role) AS by_role,
       (SELECT count(*) FROM client
         WHERE usename = session_user AND application_name = current_setting('application_name'))
           AS own,
       -- Roles that can log in, to recognise a name that is none of them: a pooler's "etl.ref". NULL
       -- where they are more than are searched (1,000).
       (SELECT CASE WHEN count(*) <= 1000 THEN coalesce(jsonb_agg(rolname), '[]') END
          FROM (SELECT rolname FROM pg_roles WHERE rolcanlogin LIMIT 1001) AS logins) AS roles,
       -- Autovacuum and other background workers have no user and are hidden as well: not counted.
       (SELECT count(*) FROM session
         WHERE backend_type IS NULL AND datid IS NOT NULL AND usesysid IS NOT NULL) AS unseen,
       session_user::text AS own_role,
       quote_ident(current_user) AS quoted_role,
       pg_is_in_recovery() AS in_recovery,
       pg_backend_pid() AS pid,
       -- Last, so that it is taken when all else has been: what this statement cost, in seconds.
       extract(epoch FROM clock_timestamp() - statement_timestamp())::float8 AS seconds
