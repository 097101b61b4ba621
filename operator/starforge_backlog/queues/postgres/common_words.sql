-- Promise: words that a free text status column is known to hold, from the planner's statistics of
-- that one column: no row is read. NULL before the first ANALYZE.
SELECT s.most_common_vals::text::text[] AS words
  FROM pg_stats s
 WHERE s.schemaname = %(schema)s AND s.tablename = %(table)s AND s.attname = %(column)s
 ORDER BY s.inherited DESC
 LIMIT 1
