"""The resources people write and read. `crds/*.yaml` is generated from these models."""

GROUP = "backlog.starforge.dev"
VERSION = "v1alpha1"
PLURAL = "queuebacklogpolicies"
