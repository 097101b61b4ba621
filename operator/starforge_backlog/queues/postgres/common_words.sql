-- Promise: words that a status column is known to hold, and the share of rows that each had, from the
-- planner's statistics of that one column: no row is read. No row before the first ANALYZE.
SELECT common.word, common.share::float8 AS share
  FROM (SELECT most_common_vals::text::text[] AS words, most_common_freqs AS shares
          FROM pg_stats
         WHERE schemaname = %(schema)s AND tablename = %(table)s AND attname = %(column)s
         ORDER BY inherited DESC
         LIMIT 1) AS statistics,
       unnest(statistics.words, statistics.shares) AS common (word, share)
 LIMIT 100
