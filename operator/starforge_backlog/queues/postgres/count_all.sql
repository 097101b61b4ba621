-- Promise: everything about a small table, exactly, in one pass over at most `SMALL_PAGES` pages.
SELECT 'type' AS part,
       {status}::text AS word,
       {type} AS type,
       count(*) FILTER (WHERE {is_due}) AS due,
       count(*) FILTER (WHERE NOT {is_due}) AS scheduled,
       0::bigint AS undated,
       {oldest} AS oldest
  FROM {table}
 GROUP BY 2, 3
