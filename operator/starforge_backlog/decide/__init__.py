"""Pure rules: readings in, a plan out. No I/O, no clock, no framework (an import rule checks it).

Read `decision.py` first; it combines the rules in the order of the runbook's mitigations:

* `assess`: what may be believed, is it bad, and why?
* `budget`: what can the database serve?
* `breakers` and `pauses`: which producers are paused and resumed
* `steps`, or `guard` where an autoscaler owns the replicas

`facts` gathers what the readings of a pass say; `order` puts the actions in order, one thing per
window; `plan` is the result. `reasons`, `situation`, `numbers` and `said_once` serve all of them.
"""
