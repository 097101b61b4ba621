"""The Kubernetes side: one client, and one small reader or writer for each thing asked of it.

`client` sends, `errors` translates. `workload` reads a target, `scale` writes its replicas,
`status` is the only writer of a policy's status, `secrets` holds values given by reference.
"""

import os
from pathlib import Path

# The client library asks for the home folder as soon as it is imported, and raises where there is
# none: a uid without a line in /etc/passwd, under a runtime that does not set HOME.
try:
    Path.home()
except RuntimeError:
    os.environ["HOME"] = "/"
