-- Promise: names and types of all columns and what their values are limited to; no row of the
-- table and no statistics of its values are read (payloads may hold personal data).
SELECT a.attname::text AS name,
       format_type(b.oid, NULL) AS type,
       NOT a.attnotnull AND NOT t.typnotnull AS nullable,
       has_column_privilege(a.attrelid, a.attnum, 'SELECT') AS readable,
       pg_get_expr(d.adbin, d.adrelid) AS default_value,
       ARRAY(SELECT e.enumlabel::text FROM pg_enum e
              WHERE e.enumtypid = b.oid ORDER BY e.enumsortorder) AS labels,
       ARRAY(SELECT pg_get_constraintdef(k.oid) FROM pg_constraint k
              WHERE k.contype = 'c'
                AND ((k.conrelid = a.attrelid AND k.conkey = ARRAY[a.attnum])
                     OR (t.typtype = 'd' AND k.contypid = t.oid))) AS checks
  FROM pg_attribute a
  JOIN pg_type t ON t.oid = a.atttypid
  JOIN pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
 WHERE a.attrelid = %(oid)s::bigint::oid AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attnum
