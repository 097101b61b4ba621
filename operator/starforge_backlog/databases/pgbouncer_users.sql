-- Promise: limits and pool sizes that a user has for itself (PgBouncer 1.24 and later). Answered from
-- memory.
SHOW USERS
