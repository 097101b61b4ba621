"""Guardrail mode: an autoscaler owns the replicas, we keep its maximum within the budget (P1).

`maximum` is the decision, `limits` the number it follows, `marks` what is kept on the
autoscaler's own object, `keda` what is particular to KEDA.
"""
