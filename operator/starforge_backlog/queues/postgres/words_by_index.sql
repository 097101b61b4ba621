-- Promise: jumps from status word to status word through an index and stops counting each at a cap.
-- Words that are understood are not counted here, and no row is read that does not count. Run only
-- where the gate saw an index that starts with the status and covers all rows.
(WITH RECURSIVE found (word, position) AS (
    (SELECT j.{status}, 1 FROM {table} j WHERE j.{status} IS NOT NULL ORDER BY j.{status} LIMIT 1)
  UNION ALL
    SELECT (SELECT j.{status} FROM {table} j
             WHERE j.{status} > found.word ORDER BY j.{status} LIMIT 1),
           found.position + 1
      FROM found WHERE found.word IS NOT NULL AND found.position <= {most_words}
 )
 SELECT left(found.word::text, {longest_name}) AS word,
        (SELECT count(*) FROM (SELECT 1 FROM {table} j
           WHERE j.{status} = found.word LIMIT {limit}) c) AS jobs
   FROM found
  WHERE found.word IS NOT NULL
    AND NOT left(found.word::text, {longest_name}) = ANY ({known}))
UNION ALL
(SELECT NULL::text,
        (SELECT count(*) FROM (SELECT 1 FROM {table} j
           WHERE j.{status} IS NULL LIMIT {limit}) c))
