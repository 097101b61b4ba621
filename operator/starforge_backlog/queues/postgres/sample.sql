-- Promise: reads whole blocks chosen at random, about `SAMPLE_PAGES` of them whatever the table's
-- size (the error depends on blocks, not on percent). BERNOULLI reads all.
SELECT 'type' AS part,
       left({status}::text, {longest_name}) AS word,
       {type} AS type,
       count(*) FILTER (WHERE {is_due}) AS due,
       count(*) FILTER (WHERE NOT {is_due} AND NOT {is_held}) AS scheduled,
       0::bigint AS undated,
       NULL::float8 AS oldest,
       count(*) FILTER (WHERE {is_held}) AS held,
       NULL::float8 AS held_oldest
  FROM {table} TABLESAMPLE SYSTEM ({percent})
 GROUP BY 2, 3
 ORDER BY left({status}::text, {longest_name}) = ANY ({known}) DESC NULLS LAST, count(*) DESC
 LIMIT {most_groups}
