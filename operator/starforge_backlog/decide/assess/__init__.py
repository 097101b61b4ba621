"""Is it bad, and why? (runbook, *Key signals* and *Causes and targeted actions*)

`freshness` and `clocks` say which readings may be believed; `objectives`, `pressure` and `need`
judge them; `diagnosis` and `retries` name the cause.
"""
