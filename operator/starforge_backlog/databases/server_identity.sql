-- Promise: the same text for every way to spell the URL of one server, and through any proxy.
-- The cluster's own identifier is written at initdb; a standby and a clone made from files share
-- it with their origin, which puts them into one budget: too small, never too large.
SELECT system_identifier::text AS server FROM pg_control_system()
