-- Promise: says in which slots jobs are held back and whether jobs of these types are about to be worked on, from
-- both ends of the line and no further, whatever the table's size.
--
-- The slots jump from one to the next through the workers' own claim index. Both ends, because
-- workers take the oldest and new jobs join at the other end; between them a type that is not held
-- comes into sight when it is about to matter.
-- {table} and columns are identifiers of the policy, the word is a literal: with a parameter
-- partial indexes are not used.
(WITH RECURSIVE found (slot, position) AS (
    (SELECT {slot}, 1
       FROM {table} AS job
      WHERE job.{status} = {word} AND {is_held}
      ORDER BY job.{due}
      LIMIT 1)
  UNION ALL
    SELECT (SELECT {slot}
              FROM {table} AS job
             WHERE job.{status} = {word} AND {is_held}
               AND job.{due} >= now()
                   + make_interval(hours => {first} + {width} * (found.slot + 1))
             ORDER BY job.{due}
             LIMIT 1),
           found.position + 1
      FROM found
     WHERE found.slot IS NOT NULL AND found.position < {most_slots}
 )
 SELECT found.slot,
        (SELECT count(*) FROM found) >= {most_slots} AS more,
        EXISTS (SELECT 1
                  FROM (SELECT job.{type} AS type
                          FROM {table} AS job
                         WHERE job.{status} = {word} AND {in_range}
                         ORDER BY job.{due}
                         LIMIT {scan}) AS line
                 WHERE line.type IN ({types}))
        OR EXISTS (SELECT 1
                     FROM (SELECT job.{type} AS type
                             FROM {table} AS job
                            WHERE job.{status} = {word} AND {in_range} AND job.{due} <= now()
                            ORDER BY job.{due} DESC
                            LIMIT {scan}) AS line
                    WHERE line.type IN ({types})) AS running
   FROM (SELECT found.slot FROM found WHERE found.slot IS NOT NULL
         UNION ALL SELECT NULL) AS found)
