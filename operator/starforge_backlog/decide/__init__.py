"""Pure rules: readings in, a plan out. No I/O, no clock, no framework (an import rule checks it).

Read `decision.py` first; it combines the rules in the order of the runbook's mitigations:
`objectives` (is it bad?), `diagnosis` (why?), `breaker` and `producers` (pause, resume),
`budget` (what the database can serve), `need`, `verdict` and `scaling` (steps).
"""
