-- Promise: works for every role. Used where pg_control_system() was revoked. The server's own
-- address is the same for every spelling of its name, though not through a proxy beside it.
SELECT coalesce(host(inet_server_addr()), 'socket') || ':'
       || coalesce(inet_server_port()::text, current_setting('port')) AS server
