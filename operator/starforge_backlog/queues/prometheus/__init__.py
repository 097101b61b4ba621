"""Queues, or single signals of them, that Prometheus reports."""
