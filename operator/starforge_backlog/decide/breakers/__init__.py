"""Circuit breakers (runbook, *Add circuit breakers*).

`signals` is what a trip rule reads, `breaker` the state machine. `unreadable` says what follows
from a rule that cannot be judged, `next_trip` when one will have held for its time.
"""
