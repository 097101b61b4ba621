"""The resources people write and read. `crds/*.yaml` is generated from these models."""

GROUP = "backlog.starforge.dev"
VERSION = "v1alpha1"
PLURAL = "queuebacklogpolicies"

# The name under which we write: `managedFields` tells our writes of `replicas` from others' (P9).
FIELD_MANAGER = "starforge-backlog"
