"""Start here: settings, logging, and the framework that watches policies.

python -m starforge_backlog [--help]
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys

import kopf
import structlog

from starforge_backlog import __version__, handlers
from starforge_backlog.cluster.credentials import Credentials, NoCluster
from starforge_backlog.process import Process
from starforge_backlog.report import logs
from starforge_backlog.settings import PREFIX, BadSettings, Settings

# sysexits.h: the configuration is wrong; restarting will not mend it.
EX_CONFIG = 78
# The same: it cannot go on now, and is to be started again.
EX_TEMPFAIL = 75

_log = structlog.stdlib.get_logger(__name__)


def main() -> int:
    """Run until a signal ends it."""
    described = "\n".join(
        f"  {PREFIX}{name.upper()} (default {field.default!r})"
        for name, field in Settings.model_fields.items()
    )
    parser = argparse.ArgumentParser(
        prog="python -m starforge_backlog",
        description="The StarForge backlog operator. It is configured by its environment:",
        epilog=described + "\n\nThe cluster is the pod's own, or the one of KUBECONFIG.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.parse_args()
    try:
        settings = Settings.from_environ(os.environ)
        # Asked again by the process itself; here a mistake ends in a sentence, not in retries.
        asyncio.run(Credentials.load(os.environ))
    except (BadSettings, NoCluster) as wrong:
        print(f"starforge-backlog: {wrong}", file=sys.stderr)
        return EX_CONFIG
    logs.configure(settings.log_format, level=logging.getLevelName(settings.log_level.upper()))
    try:
        kopf.run(
            registry=kopf.get_default_registry(),
            standalone=True,
            clusterwide=not settings.namespaces,
            namespaces=settings.namespaces,
            # By default the framework asks the system for the user's name, and raises where the uid
            # has none: in a pod. The type is a NewType of str that it does not export.
            identity=settings.pod_name,  # type: ignore[arg-type]
            memo=Process(settings, os.environ),
        )
    except Exception as error:  # noqa: BLE001 - the framework's errors are not public
        # Mostly a watch that is refused: the CRD is gone, or a right to read a namespace. The next
        # start looks at both again, and says what it waits for.
        _log.error("ended, to be started again", error=type(error).__name__, reason=str(error))
        return EX_TEMPFAIL
    return 0


if __name__ == "__main__":
    assert handlers.RESOURCE  # imported for its registrations
    sys.exit(main())
