-- Promise: the flag becomes true only if it was not, in one statement, and the row then proves
-- whose pause it is. Any number of operators may run it at once, and it
-- may be run again after a crash with the same token.
--
-- NOWAIT: a person in the middle of an UPDATE of this row is not queued behind (55P03).
-- FOR UPDATE hands on the newest committed version of the row, so the judgement below is about
-- what the UPDATE will overwrite, not about an older snapshot.
-- The mark holds the transaction that wrote it, which is the row's xmin right after our write. So
-- even when a crash kept xmin from reaching the policy's status, a later write by anybody else is
-- seen: the row's xmin differs from the mark's.
-- {table}, {name} and {data} are identifiers of the policy; literal braces are doubled.
WITH seen AS MATERIALIZED (
    SELECT xmin::text AS version, {data}::jsonb AS data
      FROM {table} WHERE {name} = %(flag)s FOR UPDATE NOWAIT
), flag AS (
    SELECT version, data,
           data #> %(path)s::text[] AS value,
           data #> %(owner_path)s::text[] AS mark,
           -- A flag is a scalar or absent; an object there is the application's data, and
           -- would be copied whole into the policy's status.
           jsonb_typeof(data #> %(parent)s::text[]) IS NOT DISTINCT FROM 'object'
           AND coalesce(jsonb_typeof(data #> %(path)s::text[]), 'null') NOT IN ('object', 'array')
           -- What a resume puts back stands in the policy's status, which has an end.
           AND coalesce(octet_length((data #> %(path)s::text[])::text), 0) <= %(most_bytes)s
               AS has_place
      FROM seen
), judged AS MATERIALIZED (
    SELECT *,
           CASE WHEN (SELECT count(*) FROM seen) > 1 OR NOT has_place THEN 'BadShape'
                WHEN value IS DISTINCT FROM 'true'::jsonb THEN 'Paused'
                WHEN mark ->> 'token' = %(token)s THEN 'AlreadyOurs'
                ELSE 'AlreadyPaused' END AS outcome,
           jsonb_build_object('owner', %(owner)s::text, 'token', %(token)s::text,
                              'at', %(at)s::text, 'version', pg_current_xact_id()::xid::text)
           -- No prev: the key was absent, which is not the same as null.
           || CASE WHEN value IS NULL THEN '{{}}' ELSE jsonb_build_object('prev', value) END
           -- A key of that name that no operator wrote belongs to the application: kept.
           || CASE WHEN mark IS NULL OR mark ->> 'token' IS NOT NULL THEN '{{}}'
                   ELSE jsonb_build_object('prev_mark', mark) END AS new_mark
      FROM flag
), written AS (
    UPDATE {table} AS target
       SET {data} = CASE WHEN %(write_owner)s
                         THEN jsonb_set(jsonb_set(judged.data, %(path)s::text[], 'true'),
                                        %(owner_path)s::text[], judged.new_mark)
                         ELSE jsonb_set(judged.data, %(path)s::text[], 'true') END
      FROM judged
     WHERE judged.outcome = 'Paused' AND target.{name} = %(flag)s
    RETURNING target.xmin::text AS version
)
SELECT judged.outcome,
       (SELECT count(*) FROM seen) AS rows_found,
       coalesce(jsonb_typeof(judged.data), 'NULL') AS data_kind,
       CASE judged.outcome WHEN 'Paused' THEN (SELECT version FROM written)
                           WHEN 'AlreadyOurs' THEN judged.mark ->> 'version' END AS version,
       CASE judged.outcome WHEN 'Paused' THEN judged.value::text
                           WHEN 'AlreadyOurs' THEN (judged.mark -> 'prev')::text END AS previous
  FROM judged
