SELECT COALESCE((data ->> 'ingest_paused')::boolean, false)
  FROM feature_flags
 WHERE name = 'ingest_control';
