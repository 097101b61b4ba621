-- Promise: what each pool may open, defaults filled in, and which database it leads to. Answered from
-- memory.
SHOW DATABASES
