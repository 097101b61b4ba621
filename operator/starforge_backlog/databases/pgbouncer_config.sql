-- Promise: max_client_conn and max_user_connections as they are in force. Answered from memory.
SHOW CONFIG
