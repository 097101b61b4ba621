-- Promise: reads the rows that changed last through an index on that time, newest first, and stops
-- at the cap however many there are. Grouped by age in slices of `SLICE` seconds, so that one
-- reading serves windows of every length. `changed` counts rows that were written after they were
-- made: none although the table is updated means that the application does not keep the column.
SELECT word, type, slice, count(*) AS jobs, count(*) FILTER (WHERE changed) AS changed,
       max(age) AS oldest
  FROM (SELECT {status}::text AS word,
               {type} AS type,
               floor(({now} - extract(epoch FROM {ended_at}::timestamptz)::float8) / {slice})::int AS slice,
               {now} - extract(epoch FROM {ended_at}::timestamptz)::float8 AS age,
               {changed} AS changed
          FROM {table} j
         WHERE {ended_at} > now() - make_interval(secs => {window}) AND {ended_at} <= now()
         ORDER BY {ended_at} DESC
         LIMIT {limit}) l
 GROUP BY 1, 2, 3
