-- Promise: the row of the audit table stands in the same statement as the write, so either both
-- happened or none; nothing is written where no backfill was.
, audited AS (
    INSERT INTO {audit_table} (action, metadata)
    SELECT {action},
           jsonb_build_object('token', %(token)s::text, 'owner', %(owner)s::text,
                              'at', %(at)s::text, 'why', %(why)s::text,
                              'table', {place}, 'rows', proof.rows)
      FROM proof
     WHERE proof.rows IS NOT NULL
    RETURNING 1
)
