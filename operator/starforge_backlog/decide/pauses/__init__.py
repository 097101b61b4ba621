"""Pause producers and release them again, and only our own pauses (P4; runbook, cause 2).

`pausing` is the decision for each. `ways` says what proves a pause and in which order they are
made, `moved` and `server_identity` what follows when the place has changed, `memory` and `items`
what must be remembered first, `standing` which producers stand still.
"""
