-- Promise: undoes our pause and nothing else, in one statement. Running it
-- again changes nothing.
--
-- Ours means: the token is ours and nobody wrote the row since, i.e. its xmin is still the one of
-- our write. The token alone is not enough: the runbook's own UPDATE leaves it in place. xmin
-- survives VACUUM FREEZE and VACUUM FULL.
-- The mark in the row is written together with the pause, so its previous value and version are
-- used where it exists; those from the policy's status where the policy forbids a mark.
-- {table}, {name} and {data} are identifiers of the policy; literal braces are doubled.
WITH seen AS MATERIALIZED (
    SELECT xmin::text AS version, {data}::jsonb AS data
      FROM {table} WHERE {name} = %(flag)s FOR UPDATE NOWAIT
), flag AS (
    SELECT version, data,
           data #> %(path)s::text[] AS value,
           data #> %(owner_path)s::text[] AS mark,
           jsonb_typeof(data #> %(parent)s::text[]) IS NOT DISTINCT FROM 'object' AS has_place
      FROM seen
), owned AS (
    SELECT *, mark ->> 'token' AS token,
           mark ->> 'token' IS NOT DISTINCT FROM %(token)s::text AS marked_by_us
      FROM flag
), judged AS MATERIALIZED (
    SELECT *,
           CASE WHEN (SELECT count(*) FROM seen) > 1 OR NOT has_place THEN 'BadShape'
                WHEN value IS DISTINCT FROM 'true'::jsonb THEN 'NotPaused'
                WHEN marked_by_us AND version = mark ->> 'version'
                     AND %(version)s::text IN ('', version) THEN 'Resumed'
                WHEN marked_by_us THEN 'ChangedSince'
                -- Another token; or none, and no write of ours is known.
                WHEN token IS NOT NULL OR %(version)s::text = '' THEN 'NotOurs'
                WHEN NOT %(write_owner)s AND version = %(version)s::text THEN 'Resumed'
                ELSE 'ChangedSince' END AS outcome,
           CASE WHEN marked_by_us THEN mark -> 'prev' ELSE %(previous)s::jsonb END AS previous
      FROM owned
), restored AS (
    SELECT outcome, marked_by_us, mark -> 'prev_mark' AS prev_mark,
           CASE WHEN previous IS NULL THEN data #- %(path)s::text[]
                ELSE jsonb_set(data, %(path)s::text[], previous) END AS data
      FROM judged WHERE outcome = 'Resumed'
), written AS (
    UPDATE {table} AS target
       SET {data} = CASE WHEN NOT marked_by_us THEN restored.data
                         WHEN prev_mark IS NULL THEN restored.data #- %(owner_path)s::text[]
                         ELSE jsonb_set(restored.data, %(owner_path)s::text[], prev_mark) END
      FROM restored WHERE target.{name} = %(flag)s
    RETURNING target.xmin::text AS version
)
SELECT judged.outcome,
       (SELECT count(*) FROM seen) AS rows_found,
       coalesce(jsonb_typeof(judged.data), 'NULL') AS data_kind,
       (SELECT version FROM written) AS version
  FROM judged
