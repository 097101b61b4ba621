-- Promise: everything about a small table, exactly, in one pass over at most `SMALL_PAGES` pages, and
-- at most `MOST_GROUPS` rows of answer: those of the words that are known first, the largest first.
SELECT 'type' AS part,
       left({status}::text, {longest_name}) AS word,
       {type} AS type,
       count(*) FILTER (WHERE {is_due} AND NOT {is_ageless}) AS due,
       count(*) FILTER (WHERE NOT {is_due} AND NOT {is_held}) AS scheduled,
       count(*) FILTER (WHERE {is_due} AND {is_ageless}) AS undated,
       {oldest} AS oldest,
       count(*) FILTER (WHERE {is_held}) AS held,
       {held_oldest} AS held_oldest
  FROM {table}
 GROUP BY 2, 3
 ORDER BY left({status}::text, {longest_name}) = ANY ({known}) DESC NULLS LAST, count(*) DESC
 LIMIT {most_groups}
