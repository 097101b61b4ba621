SELECT count(*) FILTER (WHERE usename = 'starforge_etl') AS workers,
       count(*) FILTER (WHERE usename IN ('starforge_web', 'starforge_api')) AS web,
       count(*) FILTER (WHERE usename = 'stranger') AS strangers,
       count(*) FILTER (WHERE usename = 'starforge_backlog') AS operator,
       count(*) FILTER (WHERE usename IS NULL OR usename NOT IN (
           'starforge_etl', 'starforge_web', 'starforge_api', 'stranger', 'starforge_backlog'
       )) AS rest,
       current_setting('max_connections')::int AS max_connections,
       current_setting('superuser_reserved_connections')::int
           + COALESCE(current_setting('reserved_connections', true)::int, 0) AS reserved
  FROM pg_stat_activity
 WHERE backend_type = 'client backend';
