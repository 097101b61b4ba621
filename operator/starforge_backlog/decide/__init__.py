"""Pure rules: readings in, a plan out. No I/O, no clock, no framework (an import rule checks it).

Read `decision.py` first; it combines the rules in the order of the runbook's mitigations:
`freshness` and `clocks` (what may be believed), `facts` with `objectives`, `pressure`, `budget`
and `need` (is it bad, and what can the database serve?), `diagnosis` (why?), `signals`, `breaker`
and `producers` (pause, resume), `scaling` with `ownership`, `step_observation` and `verdict`
(steps), and `order` (what comes first, and one thing per window).
"""
