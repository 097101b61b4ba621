-- Promise: says what the flag says, and takes no lock. No row: nothing is paused, nothing can be.
-- {table}, {name} and {data} are identifiers of the policy; literal braces are doubled.
SELECT count(*) OVER () AS rows_found,
       flag.version,
       coalesce(jsonb_typeof(flag.data), 'NULL') AS data_kind,
       jsonb_typeof(flag.data #> %(parent)s::text[]) IS NOT DISTINCT FROM 'object'
       AND coalesce(jsonb_typeof(flag.data #> %(path)s::text[]), 'null') NOT IN ('object', 'array')
       AND coalesce(octet_length((flag.data #> %(path)s::text[])::text), 0) <= %(most_bytes)s
           AS has_place,
       flag.data #> %(path)s::text[] IS NOT DISTINCT FROM 'true'::jsonb AS paused,
       -- Anybody's text: a token of ours is a third of that.
       left(flag.data #> %(owner_path)s::text[] ->> 'token', 256) AS token,
       -- As in feature_flag_pause.sql, which takes no larger one.
       CASE WHEN octet_length((flag.data #> %(owner_path)s::text[] -> 'prev')::text)
                 <= %(most_bytes)s
            THEN (flag.data #> %(owner_path)s::text[] -> 'prev')::text END AS previous
  FROM (SELECT xmin::text AS version, {data}::jsonb AS data
          FROM {table} WHERE {name} = %(flag)s) AS flag
