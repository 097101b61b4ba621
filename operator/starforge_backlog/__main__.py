"""Start here: settings, logging, and the framework that watches policies.

python -m starforge_backlog [--help]
python -m starforge_backlog release [--help]
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Mapping

import kopf
import structlog

from starforge_backlog import __version__, handlers, release_command
from starforge_backlog.cluster.client import ClusterClient
from starforge_backlog.cluster.credentials import Credentials, NoCluster
from starforge_backlog.namespaces import read_namespaces
from starforge_backlog.process import Process
from starforge_backlog.report import logs
from starforge_backlog.settings import PREFIX, BadSettings, Settings

# sysexits.h: the configuration is wrong; restarting will not fix it.
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
    commands = parser.add_subparsers(dest="command", metavar="command", required=False)
    release_command.add_to(commands)
    given = parser.parse_args()
    asked = (
        release_command.asked_of(given, parser) if given.command == release_command.NAME else None
    )
    try:
        settings = Settings.from_environ(os.environ)
        # Asked again by the process itself; here a mistake ends in a sentence, not in retries.
        asyncio.run(Credentials.load(os.environ))
    except (BadSettings, NoCluster) as wrong:
        print(f"starforge-backlog: {wrong}", file=sys.stderr)
        return EX_CONFIG
    logs.configure(settings.log_format, level=logging.getLevelName(settings.log_level.upper()))
    if asked is not None:
        return release_command.main(asked, settings, os.environ)
    left_out = asyncio.run(_left_out(settings, os.environ))
    settings = settings.without(left_out)
    process = Process(settings, os.environ, left_out)
    try:
        kopf.run(
            registry=kopf.get_default_registry(),
            standalone=True,
            clusterwide=not settings.namespaces,
            namespaces=settings.namespaces,
            # By default the framework asks the system for the user's name, and raises where the uid
            # has none: in a pod.
            identity=settings.pod_name,  # type: ignore[arg-type]  # a NewType that is not exported
            memo=process,
            # An Event of asyncio: for a Future the framework blocks a thread, and a process that
            # is asked to end would wait for that thread until it is killed.
            stop_flag=process.again,
        )
    except Exception as error:  # noqa: BLE001 - the framework's errors are not public
        # Mostly a watch that is refused: the CRD is gone, or a right to read a namespace. The next
        # start checks both again, and says what it waits for.
        _log.error("ended, to be started again", error=type(error).__name__, reason=str(error))
        return EX_TEMPFAIL
    return EX_TEMPFAIL if process.again.is_set() else 0


async def _left_out(settings: Settings, environ: Mapping[str, str]) -> Mapping[str, str]:
    """Listed namespaces that cannot be read, with the reason. None is left out where none can be
    read: then the start waits, and says for what."""
    if not settings.namespaces:
        return {}
    client = await ClusterClient.connect(environ)
    try:
        found = await read_namespaces(client, settings.namespaces)
    finally:
        await client.close()
    return found.left_out if found.followed else {}


if __name__ == "__main__":
    assert handlers.RESOURCE  # imported for its registrations
    sys.exit(main())
