-- One role per kind of client, so that connections can be distinguished. The names in braces are
-- passwords, put in as literals by database.py (CREATE ROLE takes no parameters).
CREATE ROLE starforge_api LOGIN PASSWORD {api};
CREATE ROLE starforge_web LOGIN PASSWORD {web};
CREATE ROLE starforge_etl LOGIN PASSWORD {etl};
CREATE ROLE stranger LOGIN PASSWORD {stranger};

-- All that the operator gets: statistics, the job table to read, the one flag row to write.
CREATE ROLE starforge_backlog LOGIN PASSWORD {backlog};
GRANT pg_read_all_stats TO starforge_backlog;
GRANT SELECT ON queue_jobs, feature_flags TO starforge_backlog;
GRANT UPDATE (data) ON feature_flags TO starforge_backlog;

GRANT SELECT, INSERT ON hero_snapshots, queue_jobs TO starforge_api;
GRANT SELECT ON feature_flags TO starforge_api;
GRANT SELECT ON hero_snapshots TO starforge_web;
GRANT SELECT, UPDATE ON hero_snapshots, queue_jobs TO starforge_etl;
