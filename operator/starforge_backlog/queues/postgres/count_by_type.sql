-- Promise: as waiting_by_type.sql, for words whose due time does not matter.
(WITH RECURSIVE kind (type, position) AS (
    (SELECT j.{type}, 1 FROM {table} j WHERE j.{status} = {word} ORDER BY j.{type} LIMIT 1)
  UNION ALL
    SELECT (SELECT j.{type} FROM {table} j
             WHERE j.{status} = {word} AND j.{type} > kind.type ORDER BY j.{type} LIMIT 1),
           kind.position + 1
      FROM kind WHERE kind.type IS NOT NULL AND kind.position <= {most_types}
 )
 SELECT 'type' AS part,
        {word}::text AS word,
        left(kind.type::text, {longest_name}) AS type,
        (SELECT count(*) FROM (SELECT 1 FROM {table} j
           WHERE j.{status} = {word} AND j.{type} = kind.type LIMIT {limit}) c) AS due,
        0::bigint AS scheduled,
        0::bigint AS undated,
        NULL::float8 AS oldest,
        0::bigint AS held,
        NULL::float8 AS held_oldest
   FROM kind WHERE kind.type IS NOT NULL)
