"""A whole Kubernetes cluster on this machine, without Docker and without root.

The demo and the cluster tests start it the same way, so what the demo shows is what the tests
test. Start reading at `cluster.py`.
"""
