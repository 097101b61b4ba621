"""The Kubernetes side: one client, and one small reader or writer for each thing asked of it.

`client` sends, `errors` translates. `workload` reads a target, `scale` writes its replicas,
`status` is the only writer of a policy's status, `secrets` holds values given by reference.
"""
