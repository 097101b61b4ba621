-- Promise: valid B-tree indexes with their key columns in order and their predicate. An expression
-- stands as '(expression)' so that it is not mistaken for a prefix of plain columns.
SELECT i.indexrelid::regclass::text AS name,
       pg_get_expr(i.indpred, i.indrelid) AS predicate,
       ARRAY(SELECT coalesce(a.attname::text, '(expression)')
               FROM unnest(i.indkey::int2[]) WITH ORDINALITY k (number, position)
               LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
              WHERE k.position <= i.indnkeyatts
              ORDER BY k.position) AS columns
  FROM pg_index i
  JOIN pg_class c ON c.oid = i.indexrelid
  JOIN pg_am m ON m.oid = c.relam AND m.amname = 'btree'
 WHERE i.indrelid = %(oid)s::bigint::oid AND i.indisvalid
 ORDER BY i.indexrelid
