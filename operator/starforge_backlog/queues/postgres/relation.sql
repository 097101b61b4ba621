-- Promise: finds the table by name without reading it, and says everything that would make a count
-- silently wrong: a view (no counters), another schema, row security that hides rows, children that
-- inherit (they are read with their parent, but no index and no counter of it covers them).
-- pg_class instead of to_regclass: that folds upper case and raises without USAGE on the schema.
SELECT c.oid::bigint AS oid,
       n.nspname::text AS schema,
       c.relname::text AS name,
       c.relkind::text AS kind,
       pg_table_is_visible(c.oid) AS visible,
       has_schema_privilege(n.oid, 'USAGE') AS schema_usable,
       row_security_active(c.oid) AS rows_hidden,
       c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits h WHERE h.inhparent = c.oid) AS inherited,
       current_user::text AS role
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relname = %(name)s
   AND (%(schema)s::text IS NULL OR n.nspname = %(schema)s)
   AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
   AND n.nspname NOT IN ('pg_catalog', 'information_schema')
 ORDER BY pg_table_is_visible(c.oid) DESC, n.nspname
 LIMIT 5
