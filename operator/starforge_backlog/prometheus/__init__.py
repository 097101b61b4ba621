"""The Prometheus adapter: one client per server and login, and what its answers are worth.

Start with `hub.py`; `judgement.py` says when an answer counts.
"""
