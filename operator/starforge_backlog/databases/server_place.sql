-- Promise: the same text for every way to spell the URL of one database, through any proxy, and
-- after a standby was promoted: the cluster's identifier is written at initdb, and copied with it.
SELECT system_identifier::text AS system, current_database() AS database FROM pg_control_system()
