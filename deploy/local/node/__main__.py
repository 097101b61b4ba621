"""`python -m local.node --kubeconfig FILE --run-dir FOLDER`: the node as a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from local.errors import LocalError
from local.node.images import DEFAULT_IMAGES, load_images
from local.node.node import LocalNode
from local.progress import say


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m local.node", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True, help="of a cluster admin")
    parser.add_argument("--run-dir", type=Path, required=True, help="logs and files of pods")
    parser.add_argument("--name", default="local")
    parser.add_argument("--images", type=Path, help="JSON: image name to entrypoint, env, workdir")
    parser.add_argument("--restart-backoff", type=float, default=10.0, metavar="SECONDS")
    parser.add_argument("--run", help="marks the processes of this run (default: --run-dir)")
    chosen = parser.parse_args()
    node = LocalNode(
        chosen.kubeconfig.resolve(),
        chosen.run_dir.resolve(),
        name=chosen.name,
        images=load_images(chosen.images) if chosen.images else DEFAULT_IMAGES,
        restart_backoff=chosen.restart_backoff,
        run=chosen.run,
    )
    try:
        asyncio.run(_until_signalled(node))
    except LocalError as error:
        say(str(error))
        return 1
    return 0


async def _until_signalled(node: LocalNode) -> None:
    loop = asyncio.get_running_loop()
    running = asyncio.create_task(node.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    try:
        await running
    except asyncio.CancelledError:
        say(f"node {node.name} stopped")


if __name__ == "__main__":
    sys.exit(main())
