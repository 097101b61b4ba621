-- Promise: one row from memory and file sizes, whatever the table's size (0.1 ms).
-- All are sums over the partitions of a partitioned table.
-- `epoch` changes whenever the counters may have started again: crash, pg_stat_reset, another
-- server. No row: the table was dropped, perhaps made again under another oid. Functions instead of the view
-- pg_stat_user_tables: that aggregates over the indexes as well. No row also where the name leads to
-- another table by now (ALTER TABLE … RENAME): the counts are read by the name.
WITH part AS (
  SELECT %(oid)s::bigint::oid AS relid
  UNION
  SELECT relid::oid FROM pg_partition_tree(%(oid)s::bigint::oid::regclass) WHERE isleaf
)
SELECT extract(epoch FROM clock_timestamp())::float8 AS at,
       pg_is_in_recovery() AS standby,
       current_setting('track_counts')::bool AS counting,
       concat_ws(' ', %(oid)s::bigint, pg_postmaster_start_time(),
                 pg_stat_get_db_stat_reset_time(d.oid)) AS epoch,
       sum(pg_stat_get_tuples_inserted(relid))::bigint AS inserted,
       sum(pg_stat_get_tuples_updated(relid))::bigint AS updated,
       sum(pg_stat_get_tuples_deleted(relid))::bigint AS deleted,
       sum(pg_stat_get_live_tuples(relid))::bigint AS live,
       sum(pg_stat_get_vacuum_count(relid) + pg_stat_get_autovacuum_count(relid)
           + pg_stat_get_analyze_count(relid) + pg_stat_get_autoanalyze_count(relid))::bigint
         AS maintained,
       sum(pg_stat_get_mod_since_analyze(relid))::bigint AS modified,
       (sum(pg_relation_size(relid)) / current_setting('block_size')::int)::bigint AS pages
  FROM part
  JOIN pg_class c ON c.oid = part.relid
 CROSS JOIN pg_database d
 WHERE d.datname = current_database()
   AND EXISTS (SELECT FROM pg_class k JOIN pg_namespace n ON n.oid = k.relnamespace
                WHERE k.oid = %(oid)s::bigint::oid
                  AND k.relname = %(name)s AND n.nspname = %(schema)s)
 GROUP BY d.oid
