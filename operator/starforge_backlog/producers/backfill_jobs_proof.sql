-- Promise: which backfills this token paused, from the audit table's own rows. Asked only after a
-- crash, because it may read that whole table unless `action` is indexed.
SELECT entry.metadata -> 'rows' AS rows
  FROM {audit_table} AS entry
 WHERE entry.action = {action}
   AND entry.metadata ->> 'token' = %(token)s
   AND entry.metadata ->> 'table' = %(table)s
