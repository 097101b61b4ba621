-- Promise: everything about a small table, exactly, in one pass over at most `SMALL_PAGES` pages.
SELECT 'type' AS part,
       {status}::text AS word,
       {type} AS type,
       count(*) FILTER (WHERE {is_due}) AS due,
       count(*) FILTER (WHERE NOT {is_due} AND NOT {is_held}) AS scheduled,
       0::bigint AS undated,
       {oldest} AS oldest,
       count(*) FILTER (WHERE {is_held}) AS held,
       {held_oldest} AS held_oldest
  FROM {table}
 GROUP BY 2, 3
