"""The StarForge backlog operator: the queue-backlog runbook, carried out by a machine.

Read `reconcile.py` first: one pass of the loop on one page.
"""

__version__ = "0.1.0"
