-- Promise: how many clients there are, those that are just logging in included. Answered from memory.
SHOW LISTS
