"""The resources people write and read. `crds/*.yaml` is generated from these models."""

GROUP = "backlog.starforge.dev"
VERSION = "v1alpha1"
PLURAL = "queuebacklogpolicies"

# The name under which we write: `managedFields` marks our writes of `replicas` with it (P9).
FIELD_MANAGER = "starforge-backlog"
