"""Small, observed steps of the target's replicas (P3; runbook, *Safe scaling guidance*).

`scaling` is the table of what applies first. `step_observation` and `verdict` judge the last
step, `ownership` yields to whoever else writes replicas (P9), `desired` is how many would be
asked for, and `sleep` is `minReplicas: 0`.
"""
