"""How many replicas the database can serve (P1; runbook, *Safe scaling guidance*).

`formula` is the sum. `pool_resize`, `pgbouncer` and `shared_role` are what its terms depend on;
`shares` and `holders` divide it among the policies of one server.
"""
