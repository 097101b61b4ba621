-- Promise: the pools, their server connections and who waits for them. The console answers from
-- memory and asks no database. It speaks the simple protocol only, without parameters.
SHOW POOLS
